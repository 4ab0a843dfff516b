#include "engine/timeline.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace gemlet {

void Timeline::check(const Prompt& prompt, std::size_t hidden_size) {
  std::size_t end = 0;
  for (const Media& media : prompt.media) {
    const auto fail = [&](const std::string& what) {
      throw Error(Error::Kind::argument, "media at position " + std::to_string(media.begin) + ": " + what);
    };
    if (media.begin < end || media.count == 0 || media.count > prompt.tokens.size() ||
        media.begin > prompt.tokens.size() - media.count) {
      fail("its " + std::to_string(media.count) + " places must follow position " + std::to_string(end) +
           " and end within the prompt's " + std::to_string(prompt.tokens.size()) + " tokens");
    }
    if (media.rows == nullptr || media.rows->size() != media.count * hidden_size) {
      fail("has " + std::to_string(media.rows == nullptr ? 0 : media.rows->size()) +
           " floats of embeddings, expected " + std::to_string(media.count) + " rows of " +
           std::to_string(hidden_size));
    }
    end = media.end();
  }
}

void Timeline::append(const Prompt& prompt) {
  for (Media media : prompt.media) {
    media.begin += tokens_.size();
    media_.push_back(std::move(media));
  }
  tokens_.insert(tokens_.end(), prompt.tokens.begin(), prompt.tokens.end());
}

void Timeline::truncate(std::size_t length) {
  tokens_.resize(length);
  std::erase_if(media_, [&](const Media& media) { return media.end() > length; });
  if (length > 0) return;
  scope_.reset();
  other_scopes_ = false;
}

void Timeline::set_adapter(std::shared_ptr<const Adapter> adapter) {
  truncate(0);
  adapter_ = std::move(adapter);
}

void Timeline::add_scope(const std::string& scope) {
  if (!scope_) scope_ = scope;
  if (*scope_ != scope) other_scopes_ = true;
}

SavedScope Timeline::saved_scope() const {
  if (other_scopes_ || (scope_ && !scope_->empty())) return SavedScope::named;
  return scope_ ? SavedScope::unnamed : SavedScope::no_request;
}

void Timeline::restore_scope(SavedScope saved) {
  if (saved != SavedScope::no_request) scope_ = "";
  other_scopes_ = saved == SavedScope::named;
}

std::size_t Timeline::common_prefix(const Prompt& prompt, std::size_t most) const {
  const auto token = std::mismatch(tokens_.begin(), tokens_.end(), prompt.tokens.begin(), prompt.tokens.end()).first;
  std::size_t common = std::min(static_cast<std::size_t>(token - tokens_.begin()), most);
  const auto [ours, theirs] = std::mismatch(media_.begin(), media_.end(), prompt.media.begin(), prompt.media.end(),
                                            [](const Media& a, const Media& b) { return a.same(b); });
  // Placeholders are alike: from the first picture on that differs, nothing is the same.
  if (ours != media_.end()) common = std::min(common, ours->begin);
  if (theirs != prompt.media.end()) common = std::min(common, theirs->begin);
  return cut_before(common);
}

void Timeline::take_rows(const Prompt& prompt) {
  for (std::size_t i = 0; i < std::min(media_.size(), prompt.media.size()); ++i) {
    if (media_[i].same(prompt.media[i])) media_[i].rows = prompt.media[i].rows;
  }
}

void Timeline::drop_rows() {
  for (Media& media : media_) media.rows = nullptr;
}

Prompt Timeline::prompt() const {
  Prompt all(tokens_);
  all.media = media_;
  return all;
}

std::size_t Timeline::cut_before(std::size_t at) const {
  const Media* media = across(at);
  return media == nullptr ? at : media->begin;
}

std::size_t Timeline::cut_after(std::size_t at) const {
  const Media* media = across(at);
  return media == nullptr ? at : media->end();
}

const Media* Timeline::across(std::size_t at) const {
  const auto found = std::find_if(media_.begin(), media_.end(),
                                  [&](const Media& media) { return media.begin < at && at < media.end(); });
  return found == media_.end() ? nullptr : &*found;
}

Prompt rest_of(const Prompt& prompt, std::size_t begin) {
  Prompt rest(std::span(prompt.tokens).subspan(begin));
  for (Media media : prompt.media) {
    if (media.begin < begin) continue;
    media.begin -= begin;
    rest.media.push_back(std::move(media));
  }
  return rest;
}

}  // namespace gemlet
