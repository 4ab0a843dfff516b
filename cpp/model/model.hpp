#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "gemlet/gemlet.hpp"
#include "model/batch.hpp"
#include "model/cache.hpp"
#include "model/shape.hpp"
#include "tensor/compute.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// For debugging: called after each layer with its output, float[streams][tokens][hidden]; one stream in most models.
/// Where only the tokens whose logits are wanted go on, only those are left.
using LayerTrace = std::function<void(std::size_t layer, std::span<const float> streams)>;

/// The working memory of a forward pass; grows to the largest it has seen. Used by one thread at a time.
struct Activations {
  Activations(const kernels::Kernels& table, ThreadPool& pool) : compute(table, pool) {}
  virtual ~Activations() = default;

  Compute compute;
};

/// A text model: immutable, used by any number of threads, each with activations of its own.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelShape& shape() const = 0;
  /// The whole configuration, in the checkpoint's own vocabulary.
  virtual Hyperparameters hyperparameters() const = 0;

  /// `chunk` is the most positions that are computed between two calls of Cache::advance.
  virtual std::unique_ptr<Cache> make_cache(CacheType type, std::size_t context, std::size_t chunk) const;
  virtual std::unique_ptr<Activations> make_activations(const kernels::Kernels& table, ThreadPool& pool) const = 0;

  /// Computes the segments together and advances their caches, which this model made. They must be distinct and hold
  /// room; token ids must lie in the vocabulary. logits: float[wanted tokens][vocab_size], in the order of the
  /// segments. Throws Error(cancelled) when *cancel is set; the caches are then as before.
  virtual void forward(std::span<const Segment> segments, Activations& activations, float* logits, const Cancel* cancel,
                       const LayerTrace& trace = {}) const = 0;

  /// The weights that a step of one token reads, in bytes.
  virtual std::size_t step_bytes() const = 0;

  /// A part of this model on the same weights. Activations and caches of the whole serve its slices too. Throws
  /// Error(argument) for a slice that this model does not have; by default it has none.
  virtual std::shared_ptr<const Model> sliced(const Slice& slice) const;

  /// Whether low-rank updates of this tensor take effect: it is a whole matrix that rows of a batch are multiplied with
  /// by linear(), and nothing else is read from it.
  virtual bool adaptable(const Tensor&) const { return false; }

  /// What the model uses of a tensor of its file that is no encoder's; nothing of one that belongs to a layer that a
  /// slice dropped.
  virtual std::optional<Tensor> used_part(const Tensor& tensor) const { return tensor; }
  /// Whether the tensor is read row by row from the file, and never resident as a whole.
  virtual bool on_flash(const Tensor&) const { return false; }
};

}  // namespace gemlet
