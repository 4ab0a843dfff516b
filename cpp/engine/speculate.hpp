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

// Speculation: tokens that are likely to come next are guessed at little cost, and the model computes them all in one
// pass over its weights, which is what a step costs. Each of the rows of logits has the bits that a step would have
// given (the kernels' contract), and goes to the sampler in the order of the steps until a guess proves wrong: what
// comes out is the very answer of plain decoding, greedy or sampled, for every seed. Only the time depends on the
// guesses.
namespace gemlet {

/// How many tokens to guess: what makes the most tokens for the time, by the share of the guesses that were right so
/// far. Depends on nothing but those counts, so that a run can be repeated.
class DraftLength {
 public:
  /// `guess_cost`: the time of a guess, in steps of the model.
  DraftLength(double guess_cost, std::size_t most) : row_cost_(guess_cost + checking_cost), most_(most) {}

  /// 0: a plain step pays more. From time to time one guess is tried all the same.
  std::size_t next();
  /// Of the guesses that next() asked for, how many were right before one was wrong, if one was.
  void report(std::size_t right, bool wrong);

 private:
  /// The time of another row in a pass, in steps of the model: as measured on E2B at 4 bits, some 0.1 to 0.3.
  static constexpr double checking_cost = 0.25;
  static constexpr double start = 0.9;       // guesses are tried before they are given up
  static constexpr double memory = 1.0 / 8;  // weight of the newest guess in the running share
  static constexpr int rest = 16;            // plain steps between two trials

  double row_cost_;
  std::size_t most_;
  double right_share_ = start;
  int plain_steps_ = 0;
};

/// Who guesses.
class Drafter {
 public:
  virtual ~Drafter() = default;
  /// At most `most` tokens that may follow the session's tokens and `last`; no end token among them, for nothing can
  /// follow one. The session is as before afterwards.
  virtual std::vector<Token> draft(Token last, std::size_t most, const Sampler& sampler, const Cancel* cancel) = 0;
  /// The time of a guess, in steps of the model.
  virtual double cost() const = 0;
};

/// What followed the last tokens where they stood before: right where an answer quotes, repeats or edits its prompt.
class LookupDrafter : public Drafter {
 public:
  explicit LookupDrafter(const Session& session) : session_(session) {}
  std::vector<Token> draft(Token last, std::size_t most, const Sampler& sampler, const Cancel* cancel) override;
  double cost() const override { return 0; }

 private:
  const Session& session_;
};

/// A slice of the model, on the same weights. It reads the keys and values that the whole model computed for the tokens
/// so far. Those are not what the slice alone would have computed, but a guess may come from anything, and these are
/// the better ones; it costs no second cache and no second prefill. What the slice stores for its own guesses lies
/// behind the session's tokens, where the whole model writes before it reads.
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

/// Steps of several tokens for one answer.
class Speculator {
 public:
  /// `options.speculate` is not none. Throws Error(argument) for a slice or a number of guesses that cannot be.
  Speculator(Session& session, const GenerateOptions& options);

  /// Draws the next token from logits; nothing where the answer ends with it or ended before.
  using Sample = std::function<std::optional<Token>(std::span<const float> logits)>;

  /// Appends `last` to the session and samples from the logits after it, and goes on for as long as what was sampled is
  /// what was guessed: the session then holds what as many plain steps would have left. At most `most` tokens are
  /// sampled. A guess is what `sampler`, which `sample` draws with, would draw with the same random numbers.
  void step(Token last, std::size_t most, const Sampler& sampler, const Sample& sample, const Cancel* cancel);

  int drafted() const { return drafted_; }
  int accepted() const { return accepted_; }

 private:
  Session& session_;
  std::unique_ptr<Drafter> drafter_;
  std::size_t most_;
  std::size_t fixed_;  // guesses at a time; 0: as length_ says
  DraftLength length_;
  int drafted_ = 0;
  int accepted_ = 0;
};

}  // namespace gemlet
