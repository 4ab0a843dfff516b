#include "engine/speculate.hpp"

#include <algorithm>
#include <string>

namespace gemlet {
namespace {

constexpr std::size_t max_draft_tokens = 15;
constexpr std::size_t shortest_match = 2;  // single tokens repeat by chance
constexpr std::size_t longest_match = 8;

// The published slice of E4B; of another model the half, which MatFormer training makes the smallest part.
Slice default_draft(const Model& model) {
  const Slice e2b = Slice::parse("e2b");
  return model.shape().layers.size() == static_cast<std::size_t>(e2b.of_layers) ? e2b : Slice{.ffn_share = 0.5};
}

std::unique_ptr<Drafter> make_drafter(Session& session, const GenerateOptions& options) {
  if (options.speculate == Speculate::lookup) return std::make_unique<LookupDrafter>(session);
  return std::make_unique<SliceDrafter>(
      session, options.draft ? *options.draft : default_draft(Session::Impl::of(session).model()));
}

std::size_t fixed_draft_tokens(const GenerateOptions& options) {
  const int count = options.draft_tokens;
  if (count < 0 || count > static_cast<int>(max_draft_tokens)) {
    throw Error(Error::Kind::argument, "draft_tokens is " + std::to_string(count) + ", expected 1 to " +
                                           std::to_string(max_draft_tokens) + ", or 0 for an adaptive number");
  }
  return static_cast<std::size_t>(count);
}

}  // namespace

// With an acceptance rate a, k draft tokens give 1 + a + .. + a^k tokens for the time of 1 + k * row_cost_ steps.
std::size_t DraftLength::next() {
  std::size_t best = 0;
  double best_speed = 1;
  double tokens = 1;
  double all_accepted = 1;
  for (std::size_t k = 1; k <= max_tokens_; ++k) {
    all_accepted *= acceptance_;
    tokens += all_accepted;
    const double speed = tokens / (1 + static_cast<double>(k) * row_cost_);
    if (speed > best_speed) {
      best_speed = speed;
      best = k;
    }
  }
  if (best > 0) return best;
  if (plain_steps_ < pause_steps) {
    ++plain_steps_;
    return 0;
  }
  return std::min<std::size_t>(max_tokens_, 1);
}

void DraftLength::report(std::size_t accepted, bool rejected) {
  for (std::size_t i = 0; i < accepted; ++i) acceptance_ += smoothing * (1 - acceptance_);
  if (rejected) acceptance_ -= smoothing * acceptance_;
  if (accepted > 0 || rejected) plain_steps_ = 0;
}

std::vector<Token> LookupDrafter::draft(Token last, std::size_t most, const Sampler&, const Cancel*) {
  std::vector<Token> text(session_.tokens().begin(), session_.tokens().end());
  text.push_back(last);
  const std::size_t end = text.size();
  std::size_t source = 0;  // where what followed the longest match begins; of equals the latest
  std::size_t longest = shortest_match - 1;
  for (std::size_t follower = end - 1; follower > 0 && longest < longest_match; --follower) {
    std::size_t match = 0;
    while (match < std::min(follower, longest_match) && text[follower - 1 - match] == text[end - 1 - match]) ++match;
    if (match > longest) {
      longest = match;
      source = follower;
    }
  }
  if (source == 0) return {};
  // A source that reaches the end goes on with what it has just given: a text that goes round in a circle.
  while (text.size() - end < most && !session_.engine().is_end(text[source])) text.push_back(text[source++]);
  return {text.begin() + static_cast<std::ptrdiff_t>(end), text.end()};
}

SliceDrafter::SliceDrafter(Session& session, const Slice& slice)
    : session_(Session::Impl::of(session)), model_(session_.model().sliced(slice)), logits_(session_.vocabulary()) {}

double SliceDrafter::cost() const {
  return static_cast<double>(model_->step_bytes()) / static_cast<double>(session_.model().step_bytes());
}

std::vector<Token> SliceDrafter::draft(Token last, std::size_t most, const Sampler& sampler, const Cancel* cancel) {
  const Engine::Impl::ActivationsLease activations(session_.parts());
  Sampler draft_sampler = sampler;
  const std::size_t held = session_.cache->length();
  std::vector<Token> drafts;
  try {
    while (drafts.size() < most) {
      const Segment segment{
          .tokens = {&last, 1}, .cache = session_.cache.get(), .adapter = session_.timeline.adapter().get()};
      model_->forward({&segment, 1}, *activations, logits_.data(), cancel);
      last = draft_sampler.sample(logits_).token;
      if (session_.engine->is_end(last)) break;
      drafts.push_back(last);
    }
  } catch (const Error& error) {
    session_.cache->rewind(held);
    // Logits of the slice that no token can be drawn from say nothing of the model's.
    if (error.kind() != Error::Kind::argument) throw;
    return drafts;
  } catch (...) {
    session_.cache->rewind(held);
    throw;
  }
  // Never refused: a sliding layer's ring has room for a chunk behind the window, and draft tokens are fewer.
  session_.cache->rewind(held);
  return drafts;
}

Speculator::Speculator(Session& session, const GenerateOptions& options)
    : session_(session),
      drafter_(make_drafter(session, options)),
      max_tokens_(
          std::min(max_draft_tokens, static_cast<std::size_t>(Session::Impl::of(session).parts().options.chunk) - 1)),
      fixed_(fixed_draft_tokens(options)),
      length_(drafter_->cost(), max_tokens_) {}

void Speculator::step(Token last, std::size_t most, const Sampler& sampler, const Sample& sample,
                      const Cancel* cancel) {
  const auto before = static_cast<std::size_t>(session_.position());
  Session::Impl::of(session_).catch_up(cancel);
  // `last` takes a place too, and gives a token by itself.
  const std::size_t room = std::min({static_cast<std::size_t>(session_.context()) - before - 1, most - 1, max_tokens_});
  std::vector<Token> batch = {last};
  if (const std::size_t count = std::min(fixed_ > 0 ? fixed_ : length_.next(), room); count > 0) {
    const std::vector<Token> drafts = drafter_->draft(last, count, sampler, cancel);
    batch.insert(batch.end(), drafts.begin(), drafts.end());
  }

  const std::span<const float> logits = Session::Impl::of(session_).extend(batch, Logits::all, cancel);
  const std::size_t vocabulary = logits.size() / batch.size();
  std::size_t sampled = 0;
  std::optional<Token> next;
  try {
    do {
      next = sample(logits.subspan(sampled++ * vocabulary, vocabulary));
    } while (next && sampled < batch.size() && *next == batch[sampled]);
  } catch (...) {
    Session::Impl::of(session_).keep(before + sampled);
    throw;
  }
  Session::Impl::of(session_).keep(before + sampled);

  const std::size_t accepted = sampled - 1;
  length_.report(accepted, next && sampled < batch.size());
  drafted_ += static_cast<int>(batch.size() - 1);
  accepted_ += static_cast<int>(accepted);
}

}  // namespace gemlet
