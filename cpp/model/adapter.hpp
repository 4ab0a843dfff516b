#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gemlet/gemlet.hpp"
#include "tensor/compute.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

class Batch;

/// Low-rank additions to weight matrices (LoRA, arXiv:2106.09685): W x becomes W x + scale * B (A x).
class Adapter {
 public:
  /// `find` gives the tensor of a name, or null for one that takes no updates. Throws Error(argument), naming the
  /// tensor, for such a name and for shapes that do not fit. The engine, whose tensors are meant, is kept alive.
  Adapter(std::shared_ptr<const Engine> engine, std::span<const AdapterUpdate> updates,
          const std::function<const Tensor*(std::string_view)>& find);

  const ContentHash& content() const { return content_; }
  const Engine* engine() const { return engine_.get(); }

  struct Update {
    Matrix a;  // [rank, cols]
    Matrix b;  // [rows, rank]
    float scale;
  };
  /// Null for a matrix that it leaves as it is. A matrix is known by where its elements lie, so that a slice of it has
  /// the same update.
  const Update* find(const Matrix& weights) const;

 private:
  std::shared_ptr<const Engine> engine_;
  std::vector<AdapterUpdate> stored_;
  std::unordered_map<const std::byte*, Update> updates_;
  ContentHash content_{};
};

/// Compute::linear for the rows of a batch, with what their adapters add.
void linear(Compute& compute, const Batch& batch, std::initializer_list<Compute::Product> products, const float* x);

}  // namespace gemlet
