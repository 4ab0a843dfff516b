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
      cache(engine->impl().model.config(), engine->impl().options.cache, session_context(*engine, context),
            static_cast<std::size_t>(engine->impl().options.chunk)) {}

Session::Impl::Impl(std::shared_ptr<const Engine> shared, KvCache held)
    : engine(std::move(shared)), cache(std::move(held)) {}

void Session::Impl::check_ids(std::span<const Token> ids) const {
  for (const Token token : ids) {
    if (token < 0 || static_cast<std::size_t>(token) >= vocabulary()) {
      throw Error(Error::Kind::argument,
                  "token " + std::to_string(token) + " lies outside the vocabulary of " + std::to_string(vocabulary()));
    }
  }
}

void Session::Impl::check(std::span<const Token> more) const {
  if (more.empty()) throw Error(Error::Kind::argument, "there are no tokens: expected at least one");
  check_ids(more);
  if (more.size() > cache.context() - tokens.size()) {
    throw Error(Error::Kind::context, "the context holds " + std::to_string(cache.context()) + " tokens, " +
                                          std::to_string(tokens.size()) + " are taken: " + std::to_string(more.size()) +
                                          " more do not fit");
  }
}

void Session::Impl::catch_up(std::size_t end, const Cancel* cancel) {
  const std::size_t held = cache.length();
  if (held < end) compute(std::span(tokens).subspan(held, end - held), Segment::Want::none, nullptr, cancel);
}

void Session::Impl::compute(std::span<const Token> more, Segment::Want want, float* out, const Cancel* cancel) {
  const Engine::Impl::StateLease state(model());
  const auto chunk = static_cast<std::size_t>(model().options.chunk);
  while (!more.empty()) {
    const std::span<const Token> now = more.first(std::min(chunk, more.size()));
    more = more.subspan(now.size());
    const bool skip = want == Segment::Want::last && !more.empty();
    const Segment segment{now, &cache, skip ? Segment::Want::none : want};
    model().model.forward({&segment, 1}, *state, out, cancel, trace);
    if (want == Segment::Want::all) out += now.size() * vocabulary();
  }
}

void Session::Impl::check_logits(std::span<const float> values) const {
  if (std::any_of(values.begin(), values.end(), [](float v) { return std::isnan(v); })) {
    throw Error(Error::Kind::format, model().file.path().string() +
                                         ": the model computes values that are not numbers; its weights are damaged");
  }
}

void Session::Impl::truncate(std::size_t length) {
  tokens.resize(length);
  if (cache.length() > length && !cache.rewind(length)) cache.rewind(0);
}

void Session::Impl::keep(std::size_t length) {
  const std::size_t dropped = (tokens.size() - length) * vocabulary();
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
int Session::context() const { return static_cast<int>(impl_->cache.context()); }
int Session::position() const { return static_cast<int>(impl_->tokens.size()); }
std::span<const Token> Session::tokens() const { return impl_->tokens; }

std::span<const float> Session::prefill(std::span<const Token> tokens, Logits logits, const Cancel* cancel) {
  Impl& s = *impl_;
  s.check(tokens);
  const std::size_t before = s.tokens.size();
  const std::size_t rows = logits == Logits::all ? tokens.size() : 1;
  try {
    std::vector<float> computed(rows * s.vocabulary());
    s.catch_up(before, cancel);
    s.compute(tokens, logits == Logits::all ? Segment::Want::all : Segment::Want::last, computed.data(), cancel);
    s.check_logits(computed);
    s.tokens.insert(s.tokens.end(), tokens.begin(), tokens.end());
    if (logits == Logits::last) {
      s.logits = std::move(computed);
      s.all_logits.clear();
      return s.logits;
    }
    s.all_logits = std::move(computed);
    s.logits.assign(s.all_logits.end() - static_cast<std::ptrdiff_t>(s.vocabulary()), s.all_logits.end());
    return s.all_logits;
  } catch (...) {
    s.truncate(before);
    throw;
  }
}

void Session::step(std::span<Session* const> sessions, std::span<const Token> tokens, const Cancel* cancel) {
  if (sessions.empty() || sessions.size() != tokens.size()) {
    throw Error(Error::Kind::argument, "step takes one token a session, got " + std::to_string(sessions.size()) +
                                           " sessions and " + std::to_string(tokens.size()) + " tokens");
  }
  if (std::set<Session*>(sessions.begin(), sessions.end()).size() != sessions.size()) {
    throw Error(Error::Kind::argument, "step takes each session once");
  }
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    Impl& s = *sessions[i]->impl_;
    if (s.engine != sessions[0]->impl_->engine) {
      throw Error(Error::Kind::argument, "the sessions of a step must belong to one engine");
    }
    s.check(tokens.subspan(i, 1));
    segments.push_back({tokens.subspan(i, 1), &s.cache, Segment::Want::last});
  }
  for (Session* session : sessions) session->impl_->catch_up(session->impl_->tokens.size(), cancel);

  const Impl& first = *sessions[0]->impl_;
  const std::size_t vocabulary = first.vocabulary();
  std::vector<float> computed(sessions.size() * vocabulary);
  try {
    const Engine::Impl::StateLease state(first.model());
    first.model().model.forward(segments, *state, computed.data(), cancel, first.trace);
    first.check_logits(computed);
  } catch (...) {
    for (Session* session : sessions) session->impl_->truncate(session->impl_->tokens.size());
    throw;
  }
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    Impl& s = *sessions[i]->impl_;
    s.tokens.push_back(tokens[i]);
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
  impl_->truncate(static_cast<std::size_t>(position));
  impl_->logits.clear();
  impl_->all_logits.clear();
}

int Session::advance_to(std::span<const Token> tokens, const Cancel* cancel) {
  Impl& s = *impl_;
  if (tokens.empty()) throw Error(Error::Kind::argument, "the prompt is empty: expected at least one token");
  if (tokens.size() > s.cache.context()) {
    throw Error(Error::Kind::context, "the prompt has " + std::to_string(tokens.size()) +
                                          " tokens, the context holds " + std::to_string(s.cache.context()));
  }
  s.check_ids(tokens);
  const auto same = std::mismatch(s.tokens.begin(), s.tokens.end(), tokens.begin(), tokens.end());
  const auto common = std::min(static_cast<std::size_t>(same.first - s.tokens.begin()), tokens.size() - 1);
  const std::vector<Token> before = s.tokens;
  const std::vector<float> logits = s.logits;
  rewind(static_cast<int>(common));
  const std::size_t reused = s.cache.length();
  try {
    prefill(tokens.subspan(common), Logits::last, cancel);
  } catch (...) {
    // The dropped tokens come back as a part of the timeline that is still to be computed.
    s.tokens = before;
    s.logits = logits;
    throw;
  }
  return static_cast<int>(reused);
}

Session Session::fork() const {
  Session copy;
  copy.impl_ = std::make_unique<Impl>(impl_->engine, impl_->cache.fork());
  copy.impl_->tokens = impl_->tokens;
  copy.impl_->logits = impl_->logits;
  return copy;
}

void Session::on_layer(std::function<void(std::size_t layer, std::span<const float> streams)> trace) {
  impl_->trace = std::move(trace);
}

}  // namespace gemlet
