#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/sampler.hpp"
#include "engine/session.hpp"
#include "gemlet/gemlet.hpp"

// Speculative decoding: a drafter proposes draft tokens at little cost, and the model computes them all in one pass
// over its weights, which is what a step costs. Each row of logits has the bits that a step would have given (the
// kernels' contract), and the rows go to the sampler in order until it samples another token than the draft token: the
// completion is that of plain decoding, greedy or sampled, for every seed. Only the time depends on the draft tokens.
namespace gemlet {

/// The number of draft tokens a step: what gives the most tokens for the time, by the acceptance rate so far. Depends
/// on nothing but the counts, so that a run can be repeated.
class DraftLength {
 public:
  /// `draft_cost`: the time of a draft token, in steps of the model.
  DraftLength(double draft_cost, std::size_t max_tokens)
      : row_cost_(draft_cost + verification_cost), max_tokens_(max_tokens) {}

  /// 0: a plain step is faster. From time to time one draft token is tried all the same.
  std::size_t next();
  /// How many of the draft tokens were accepted, and whether one was rejected after them.
  void report(std::size_t accepted, bool rejected);

 private:
  /// The time of another row in a pass, in steps of the model: as measured on E2B at 4 bits, some 0.1 to 0.3.
  static constexpr double verification_cost = 0.25;
  static constexpr double initial_acceptance = 0.9;  // drafting is tried before it is given up
  static constexpr double smoothing = 1.0 / 8;       // weight of the newest draft token in the acceptance rate
  static constexpr int pause_steps = 16;             // plain steps between two trials

  double row_cost_;
  std::size_t max_tokens_;
  double acceptance_ = initial_acceptance;
  int plain_steps_ = 0;
};

/// Proposes draft tokens.
class Drafter {
 public:
  virtual ~Drafter() = default;
  /// At most `most` draft tokens that may follow the session's tokens and `last`; no end token among them, for nothing
  /// can follow one. The session is as before afterwards.
  virtual std::vector<Token> draft(Token last, std::size_t most, const Sampler& sampler, const Cancel* cancel) = 0;
  /// The time of a draft token, in steps of the model.
  virtual double cost() const = 0;
};

/// Prompt lookup decoding: drafts what followed the last tokens where they occurred before, which is accepted where a
/// completion quotes, repeats or edits its prompt.
class LookupDrafter : public Drafter {
 public:
  explicit LookupDrafter(const Session& session) : session_(session) {}
  std::vector<Token> draft(Token last, std::size_t most, const Sampler& sampler, const Cancel* cancel) override;
  double cost() const override { return 0; }

 private:
  const Session& session_;
};

/// A slice of the model is the draft model, on the same weights. It reads the keys and values that the whole model
/// computed for the tokens so far. Those are not what the slice alone would have computed, but they are better, and a
/// draft token may come from anything; there is no second KV cache and no second prefill. What the slice stores for its
/// draft tokens lies behind the session's tokens, where the whole model writes before it reads.
class SliceDrafter : public Drafter {
 public:
  SliceDrafter(Session& session, const Slice& slice);
  std::vector<Token> draft(Token last, std::size_t most, const Sampler& sampler, const Cancel* cancel) override;
  double cost() const override;

 private:
  Session::Impl& session_;
  std::shared_ptr<const Model> model_;
  std::vector<float> logits_;
};

/// Steps of several tokens for one completion.
class Speculator {
 public:
  /// `options.speculate` is not none. Throws Error(argument) for an impossible slice or number of
  /// draft tokens.
  Speculator(Session& session, const GenerateOptions& options);

  /// Draws the next token from logits; nothing where the completion ends with it or ended before.
  using Sample = std::function<std::optional<Token>(std::span<const float> logits)>;

  /// Appends `last` to the session and samples from the logits after it, and goes on for as long as draft tokens are
  /// accepted: the session then holds what as many plain steps would have left. At most `most` tokens are sampled. A
  /// draft token is what `sampler`, which `sample` draws with, would draw with the same random numbers.
  void step(Token last, std::size_t most, const Sampler& sampler, const Sample& sample, const Cancel* cancel);

  int drafted() const { return drafted_; }
  int accepted() const { return accepted_; }

 private:
  Session& session_;
  std::unique_ptr<Drafter> drafter_;
  std::size_t max_tokens_;
  std::size_t fixed_;  // draft tokens a step; 0: as length_ says
  DraftLength length_;
  int drafted_ = 0;
  int accepted_ = 0;
};

}  // namespace gemlet
