#include "engine/session.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

namespace gemlet {
namespace {

std::size_t session_context(const Engine& engine, int requested) {
  const int most = engine.info().trained_context;
  if (requested < 0 || requested > most) {
    throw Error(Error::Kind::argument, "context is " + std::to_string(requested) + ", expected 1 to " +
                                           std::to_string(most) + ", or 0 for the engine's");
  }
  return static_cast<std::size_t>(requested == 0 ? engine.info().context : requested);
}

}  // namespace

Session::Impl::Impl(std::shared_ptr<const Engine> shared, int context)
    : engine(std::move(shared)),
      cache(model().make_cache(parts().options.cache, session_context(*engine, context),
                               static_cast<std::size_t>(parts().options.chunk))) {}

Session::Impl::Impl(std::shared_ptr<const Engine> shared, std::unique_ptr<Cache> held)
    : engine(std::move(shared)), cache(std::move(held)) {}

void Session::Impl::check_ids(std::span<const Token> ids) const {
  for (const Token token : ids) {
    if (token < 0 || static_cast<std::size_t>(token) >= vocabulary()) {
      throw Error(Error::Kind::argument,
                  "token " + std::to_string(token) + " lies outside the vocabulary of " + std::to_string(vocabulary()));
    }
  }
}

void Session::Impl::check(const Prompt& prompt, std::size_t taken) const {
  if (prompt.tokens.empty()) throw Error(Error::Kind::argument, "there are no tokens: expected at least one");
  check_ids(prompt.tokens);
  Timeline::check(prompt, model().shape().hidden_size);
  if (prompt.tokens.size() > cache->context() - taken) {
    throw Error(Error::Kind::context, "the context holds " + std::to_string(cache->context()) + " tokens, " +
                                          std::to_string(taken) +
                                          " are taken: " + std::to_string(prompt.tokens.size()) + " more do not fit");
  }
}

std::size_t Session::Impl::next_piece(std::size_t most) const {
  const std::size_t begin = cache->length();
  const std::size_t end = begin + std::min(most, pending());
  if (!model().shape().media_attend_both_ways() || timeline.may_cut(end)) return end - begin;
  if (const std::size_t before = timeline.cut_before(end); before > begin) return before - begin;
  const std::size_t whole = timeline.cut_after(end) - begin;
  if (whole > static_cast<std::size_t>(parts().options.chunk)) {
    throw Error(Error::Kind::argument, "the picture at position " + std::to_string(begin) + " takes " +
                                           std::to_string(whole) + " places, which are computed as one: the chunk of " +
                                           std::to_string(parts().options.chunk) + " tokens is too small");
  }
  return whole;
}

Segment Session::Impl::segment(std::size_t count, Segment::Want want) const {
  const std::size_t begin = cache->length();
  for (const Media& media : timeline.media()) {
    if (media.rows == nullptr && media.end() > begin && media.begin < begin + count) {
      throw Error(Error::Kind::argument, "the picture or sound at position " + std::to_string(media.begin) +
                                             " must be computed again, but only its content hash was restored: give "
                                             "the prompt again");
    }
  }
  return {timeline.tokens().subspan(begin, count), cache.get(), want, timeline.media(), timeline.adapter().get()};
}

void Session::Impl::compute(Segment::Want want, float* out, const Cancel* cancel, const LayerTrace& layers) {
  if (pending() == 0) return;
  const Engine::Impl::ActivationsLease activations(parts());
  const auto chunk = static_cast<std::size_t>(parts().options.chunk);
  while (pending() > 0) {
    const std::size_t count = next_piece(chunk);
    const bool skip = want == Segment::Want::last && count < pending();
    const Segment now = segment(count, skip ? Segment::Want::none : want);
    model().forward({&now, 1}, *activations, out, cancel, layers);
    check_intact();
    if (want == Segment::Want::all) out += count * vocabulary();
  }
}

void Session::Impl::check_intact() const {
  parts().file.check_intact();
  if (const MappedFile* source = cache->source()) source->check_intact();
}

void Session::Impl::check_unchanged() const {
  parts().file.check_unchanged();
  if (const MappedFile* source = cache->source()) source->check_unchanged();
}

void Session::Impl::check_since(std::size_t length, void (Impl::*check_files)() const) {
  try {
    (this->*check_files)();
  } catch (...) {
    truncate(length);
    logits.clear();
    all_logits.clear();
    throw;
  }
}

void Session::Impl::check_logits(std::span<const float> values) const {
  if (std::any_of(values.begin(), values.end(), [](float v) { return std::isnan(v); })) {
    check_unchanged();
    throw Error(Error::Kind::format, parts().file.path().string() +
                                         ": the model computes values that are not numbers; its weights are damaged");
  }
}

void Session::Impl::truncate(std::size_t length) {
  timeline.truncate(length);
  if (cache->length() > length && !cache->rewind(length)) cache->rewind(0);
}

std::size_t Session::Impl::reusable(const Prompt& prompt) const {
  const std::size_t common = std::min(timeline.common_prefix(prompt, prompt.tokens.size() - 1), cache->length());
  return cache->can_rewind(common) ? common : 0;
}

void Session::Impl::keep(std::size_t length) {
  const std::size_t dropped = (timeline.size() - length) * vocabulary();
  logits.assign(all_logits.end() - static_cast<std::ptrdiff_t>(dropped + vocabulary()),
                all_logits.end() - static_cast<std::ptrdiff_t>(dropped));
  all_logits.clear();
  truncate(length);
}

Session::Session() = default;
Session::Session(std::shared_ptr<const Engine> engine, int context) {
  if (engine == nullptr) throw Error(Error::Kind::argument, "a session needs an engine");
  impl_ = std::make_unique<Impl>(std::move(engine), context);
}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

const Engine& Session::engine() const { return *impl_->engine; }
int Session::context() const { return static_cast<int>(impl_->cache->context()); }
int Session::position() const { return static_cast<int>(impl_->timeline.size()); }
std::span<const Token> Session::tokens() const { return impl_->timeline.tokens(); }
std::span<const Media> Session::media() const { return impl_->timeline.media(); }

void Session::set_adapter(std::shared_ptr<const Adapter> adapter) {
  Impl& s = *impl_;
  if (adapter == s.timeline.adapter()) return;
  if (adapter != nullptr && adapter->engine() != s.engine.get()) {
    throw Error(Error::Kind::argument, "the adapter was made by another engine than the session's");
  }
  s.timeline.set_adapter(std::move(adapter));
  s.cache->rewind(0);
  s.logits.clear();
  s.all_logits.clear();
}

std::span<const float> Session::Impl::extend(const Prompt& prompt, Logits wanted, const Cancel* cancel) {
  const std::size_t before = timeline.size();
  check(prompt, before);
  const std::size_t rows = wanted == Logits::all ? prompt.tokens.size() : 1;
  try {
    std::vector<float> computed(rows * vocabulary());
    catch_up(cancel);
    timeline.append(prompt);
    compute(wanted == Logits::all ? Segment::Want::all : Segment::Want::last, computed.data(), cancel, trace);
    check_logits(computed);
    if (wanted == Logits::last) {
      logits = std::move(computed);
      all_logits.clear();
      return logits;
    }
    all_logits = std::move(computed);
    logits.assign(all_logits.end() - static_cast<std::ptrdiff_t>(vocabulary()), all_logits.end());
    return all_logits;
  } catch (...) {
    truncate(before);
    throw;
  }
}

std::span<const float> Session::prefill(const Prompt& prompt, Logits logits, const Cancel* cancel) {
  // Those who decode by prefilling token by token pay no system calls for it.
  if (prompt.tokens.size() == 1) return impl_->extend(prompt, logits, cancel);
  const auto before = static_cast<std::size_t>(position());
  impl_->check_unchanged();
  const std::span<const float> computed = impl_->extend(prompt, logits, cancel);
  impl_->check_since(before, &Impl::check_unchanged);
  return computed;
}

void Session::step(std::span<Session* const> sessions, std::span<const Token> tokens, const Cancel* cancel) {
  if (sessions.empty() || sessions.size() != tokens.size()) {
    throw Error(Error::Kind::argument, "step takes one token a session, got " + std::to_string(sessions.size()) +
                                           " sessions and " + std::to_string(tokens.size()) + " tokens");
  }
  if (std::set<Session*>(sessions.begin(), sessions.end()).size() != sessions.size()) {
    throw Error(Error::Kind::argument, "step takes each session once");
  }
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    Impl& s = *sessions[i]->impl_;
    if (s.engine != sessions[0]->impl_->engine) {
      throw Error(Error::Kind::argument, "the sessions of a step must belong to one engine");
    }
    s.check({tokens[i]}, s.timeline.size());
  }
  for (Session* session : sessions) session->impl_->catch_up(cancel);

  const Impl& first = *sessions[0]->impl_;
  const std::size_t vocabulary = first.vocabulary();
  std::vector<float> computed(sessions.size() * vocabulary);
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    Impl& s = *sessions[i]->impl_;
    segments.push_back({.tokens = tokens.subspan(i, 1), .cache = s.cache.get(), .adapter = s.timeline.adapter().get()});
  }
  try {
    const Engine::Impl::ActivationsLease activations(first.parts());
    first.model().forward(segments, *activations, computed.data(), cancel, first.trace);
    for (const Session* session : sessions) session->impl_->check_intact();
    first.check_logits(computed);
  } catch (...) {
    for (Session* session : sessions) session->impl_->truncate(session->impl_->timeline.size());
    throw;
  }
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    Impl& s = *sessions[i]->impl_;
    s.timeline.push_back(tokens[i]);
    s.logits.assign(computed.data() + i * vocabulary, computed.data() + (i + 1) * vocabulary);
    s.all_logits.clear();
  }
}

std::span<const float> Session::logits() const {
  if (impl_->logits.empty()) {
    throw Error(Error::Kind::argument, "there are no logits: nothing was computed since the session began or rewound");
  }
  return impl_->logits;
}

void Session::rewind(int position) {
  if (position < 0 || position > this->position()) {
    throw Error(Error::Kind::argument,
                "rewind to " + std::to_string(position) + ", expected 0 to " + std::to_string(this->position()));
  }
  if (position == this->position()) return;
  if (!impl_->timeline.may_cut(static_cast<std::size_t>(position))) {
    throw Error(Error::Kind::argument, "rewind to " + std::to_string(position) + ", which lies inside of a picture");
  }
  impl_->truncate(static_cast<std::size_t>(position));
  impl_->logits.clear();
  impl_->all_logits.clear();
}

int Session::advance_to(const Prompt& prompt, const Cancel* cancel) {
  Impl& s = *impl_;
  if (prompt.tokens.empty()) throw Error(Error::Kind::argument, "the prompt is empty: expected at least one token");
  if (prompt.tokens.size() > s.cache->context()) {
    throw Error(Error::Kind::context, "the prompt has " + std::to_string(prompt.tokens.size()) +
                                          " tokens, the context holds " + std::to_string(s.cache->context()));
  }
  s.check(prompt, 0);
  s.check_unchanged();
  const std::size_t common = s.timeline.common_prefix(prompt, prompt.tokens.size() - 1);
  const Timeline before = s.timeline;
  const std::vector<float> logits = s.logits;
  rewind(static_cast<int>(common));
  s.timeline.take_rows(prompt);
  const std::size_t reused = s.cache->length();
  try {
    prefill(rest_of(prompt, common), Logits::last, cancel);
  } catch (...) {
    // The dropped tokens come back as a part of the timeline that is still to be computed.
    s.timeline = before;
    s.logits = logits;
    throw;
  }
  return static_cast<int>(reused);
}

Session Session::fork() const {
  Session copy;
  copy.impl_ = std::make_unique<Impl>(impl_->engine, impl_->cache->fork());
  copy.impl_->timeline = impl_->timeline;
  copy.impl_->logits = impl_->logits;
  return copy;
}

void Session::on_layer(std::function<void(std::size_t layer, std::span<const float> streams)> trace) {
  impl_->trace = std::move(trace);
}

}  // namespace gemlet
