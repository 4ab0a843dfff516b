#include "model/adapter.hpp"

#include <algorithm>
#include <utility>

#include "model/batch.hpp"

namespace gemlet {
namespace {

[[noreturn]] void fail(const AdapterUpdate& update, const std::string& what) {
  throw Error(Error::Kind::argument, "adapter: tensor " + update.tensor + ": " + what);
}

Matrix floats(const std::vector<float>& values, std::size_t rows, std::size_t cols) {
  return Matrix::packed(reinterpret_cast<const std::byte*>(values.data()), DType::f32, rows, cols);
}

// Rows [begin, end) of the batch have the same adapter.
void add(Compute& compute, const Adapter::Update& update, const Compute::Product& product, const float* x,
         std::size_t begin, std::size_t end) {
  const std::size_t rank = update.a.rows;
  const std::size_t rows = product.weights.rows;
  const std::size_t cols = product.weights.cols;
  float* low = compute.scratch((end - begin) * (rank + rows));  // [tokens][rank]
  float* added = low + (end - begin) * rank;                    // [tokens][rows]
  compute.linear({{update.a.first_cols(cols), low}}, x + begin * cols, end - begin);
  compute.linear({{update.b.first_rows(rows), added}}, low, end - begin);
  compute.each_token(end - begin, [&](std::size_t t) {
    compute.kernels().axpy(update.scale, added + t * rows, product.out + (begin + t) * rows, rows);
  });
}

}  // namespace

Adapter::Adapter(std::shared_ptr<const Engine> engine, std::span<const AdapterUpdate> updates,
                 const std::function<const Tensor*(std::string_view)>& find)
    : engine_(std::move(engine)), stored_(updates.begin(), updates.end()) {
  for (const AdapterUpdate& update : stored_) {
    const Tensor* tensor = find(update.tensor);
    if (tensor == nullptr || tensor->rank != 2) fail(update, "the model has no such matrix that takes updates");
    const auto rows = static_cast<std::size_t>(tensor->shape[0]);
    const auto cols = static_cast<std::size_t>(tensor->shape[1]);
    if (update.rank == 0 || update.a.size() != update.rank * cols || update.b.size() != rows * update.rank) {
      fail(update, "A has " + std::to_string(update.a.size()) + " and B " + std::to_string(update.b.size()) +
                       " values, expected [" + std::to_string(update.rank) + ", " + std::to_string(cols) + "] and [" +
                       std::to_string(rows) + ", " + std::to_string(update.rank) + "]");
    }
    const Update entry{floats(update.a, update.rank, cols), floats(update.b, rows, update.rank), update.scale};
    if (!updates_.emplace(tensor->data, entry).second) fail(update, "is named twice");
    for (const auto bytes : {std::as_bytes(std::span(update.tensor)), std::as_bytes(std::span(update.a)),
                             std::as_bytes(std::span(update.b)), std::as_bytes(std::span(&update.scale, 1))}) {
      const ContentHash hash = content_hash(bytes);
      for (std::size_t i = 0; i < content_.size(); ++i) content_[i] = content_[i] * 0x9e3779b97f4a7c15ULL + hash[i];
    }
  }
}

const Adapter::Update* Adapter::find(const Matrix& weights) const {
  const auto found = updates_.find(weights.data);
  return found == updates_.end() ? nullptr : &found->second;
}

void linear(Compute& compute, const Batch& batch, std::initializer_list<Compute::Product> products, const float* x) {
  compute.linear(products, x, batch.size());
  for (std::size_t begin = 0, end = 0; begin < batch.size(); begin = end) {
    const Adapter* adapter = batch[begin].adapter;
    for (end = begin + 1; end < batch.size() && batch[end].adapter == adapter; ++end) continue;
    if (adapter == nullptr) continue;
    for (const Compute::Product& product : products) {
      if (const Adapter::Update* update = adapter->find(product.weights)) add(compute, *update, product, x, begin, end);
    }
  }
}

}  // namespace gemlet
