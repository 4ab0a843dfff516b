#include "engine/prefix_store.hpp"

#include <algorithm>
#include <utility>

#include "engine/session.hpp"

namespace gemlet {

bool PrefixStore::alike(const Entry& entry, const Session& session, const std::string& scope) {
  return entry.scope == scope && entry.session.context() == session.context() &&
         Session::Impl::of(entry.session).timeline.adapter() == Session::Impl::of(session).timeline.adapter();
}

PrefixStore::Place PrefixStore::erase(Place entry) {
  bytes_ -= entry->bytes;
  return entries_.erase(entry);
}

void PrefixStore::drop_unreadable() {
  const auto readable = [](const Entry& entry) {
    try {
      if (const MappedFile* source = Session::Impl::of(entry.session).cache->source()) source->check_unchanged();
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  for (Place entry = entries_.begin(); entry != entries_.end();)
    entry = readable(*entry) ? std::next(entry) : erase(entry);
}

PrefixStore::Match PrefixStore::find(const Prompt& prompt, const Session& session, const std::string& scope) {
  drop_unreadable();
  Match match;
  Place best = entries_.end();
  for (Place entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (!alike(*entry, session, scope)) continue;
    const Session::Impl& held = Session::Impl::of(entry->session);
    match.common = std::max(match.common, held.timeline.common_prefix(prompt, prompt.tokens.size() - 1));
    if (const std::size_t reusable = held.reusable(prompt); reusable > match.reusable) {
      match.reusable = reusable;
      best = entry;
    }
  }
  if (best != entries_.end()) {
    match.session = best->session.fork();
    entries_.splice(entries_.begin(), entries_, best);
  }
  return match;
}

void PrefixStore::put(const Session& session, const std::string& scope) {
  drop_unreadable();
  if (!Session::Impl::of(session).timeline.only_of(scope)) return;
  Session fork = session.fork();
  Session::Impl& held = Session::Impl::of(fork);
  const std::size_t length = held.cache->length();
  const std::size_t bytes = held.cache->bytes();
  if (length == 0 || (most_bytes_ != 0 && bytes > most_bytes_)) return;
  held.timeline.truncate(length);
  held.timeline.drop_rows();
  held.logits.clear();

  const Prompt whole = held.timeline.prompt();
  for (Place entry = entries_.begin(); entry != entries_.end();) {
    if (!alike(*entry, session, scope)) {
      ++entry;
      continue;
    }
    const Session::Impl& other = Session::Impl::of(entry->session);
    const std::size_t common = other.timeline.common_prefix(whole, length);
    if (common == length && other.cache->can_rewind(length)) {
      entries_.splice(entries_.begin(), entries_, entry);
      return;
    }
    const bool superseded = common == other.cache->length() && held.cache->can_rewind(common);
    entry = superseded ? erase(entry) : std::next(entry);
  }
  entries_.push_front({std::move(fork), scope, bytes});
  bytes_ += bytes;
  while (entries_.size() > most_sessions_ || (most_bytes_ != 0 && bytes_ > most_bytes_))
    erase(std::prev(entries_.end()));
}

}  // namespace gemlet
