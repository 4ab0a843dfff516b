#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.hpp"
#include "engine/timeline.hpp"
#include "gemlet/gemlet.hpp"
#include "model/model.hpp"

namespace gemlet {

/// The cache holds the first cache->length() positions of the timeline: all of them, or fewer after a rewind further
/// than the sliding windows reach or after a cancelled call; catch_up() computes the rest when it is needed.
struct Session::Impl {
  Impl(std::shared_ptr<const Engine> shared, int context);
  Impl(std::shared_ptr<const Engine> shared, std::unique_ptr<Cache> held);

  static Impl& of(Session& session) { return *session.impl_; }
  static const Impl& of(const Session& session) { return *session.impl_; }

  const Engine::Impl& parts() const { return Engine::Impl::of(*engine); }
  const Model& model() const { return *parts().model; }
  std::size_t vocabulary() const { return parts().vocabulary(); }

  /// Throw before anything is changed: unknown ids, no tokens or more than there is room for, media out of place.
  void check_ids(std::span<const Token> ids) const;
  void check(const Prompt& prompt, std::size_t taken) const;

  /// Positions of the timeline that the cache does not hold yet.
  std::size_t pending() const { return timeline.size() - cache->length(); }
  /// How many of them to compute next: at most `most`, or a picture that must be computed as one. Throws
  /// Error(argument) for a picture larger than the engine's chunk.
  std::size_t next_piece(std::size_t most) const;
  /// The next `count` pending positions. Throws Error(argument) where the rows of a picture are not known.
  Segment segment(std::size_t count, Segment::Want want) const;

  /// Computes what the cache lacks of the timeline, chunk by chunk; `out` takes the wanted logits.
  void compute(Segment::Want want, float* out, const Cancel* cancel, const LayerTrace& layers = {});
  /// Not traced: only what a call was given is.
  void catch_up(const Cancel* cancel) { compute(Segment::Want::none, nullptr, cancel); }
  /// Throw Error(io) if the files that are mapped, the model's and one that the session was restored from, were
  /// damaged or have changed: after each pass, and at both ends of a call, as MappedFile says it.
  void check_intact() const;
  void check_unchanged() const;
  /// One of the two; if it throws, everything from `length` on is forgotten.
  void check_since(std::size_t length, void (Impl::*check_files)() const);
  /// Throws Error(format) if the model computed anything that is not a number, or Error(io) if a file has changed.
  void check_logits(std::span<const float> values) const;
  void truncate(std::size_t length);
  /// Session::prefill without looking at the files, but for missing pages.
  std::span<const float> extend(const Prompt& prompt, Logits wanted, const Cancel* cancel);
  /// Positions of `prompt` that the cache can go on from, its last token excepted.
  std::size_t reusable(const Prompt& prompt) const;
  /// After a prefill with Logits::all: drops its tokens from `length` on, as if they had never been given.
  void keep(std::size_t length);

  std::shared_ptr<const Engine> engine;
  std::unique_ptr<Cache> cache;
  Timeline timeline;
  std::vector<float> logits;      // of the last token; empty when that is not known
  std::vector<float> all_logits;  // of the last prefill with Logits::all
  LayerTrace trace;
};

}  // namespace gemlet
