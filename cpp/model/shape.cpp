#include "model/shape.hpp"

#include <algorithm>

namespace gemlet {
namespace {

template <typename Size>
std::size_t largest(const std::vector<LayerShape>& layers, const Size& size) {
  std::size_t most = 0;
  for (const LayerShape& layer : layers) most = std::max(most, size(layer));
  return most;
}

}  // namespace

bool ModelShape::media_attend_both_ways() const {
  return std::any_of(layers.begin(), layers.end(),
                     [](const LayerShape& layer) { return layer.media_attend_both_ways; });
}

std::size_t ModelShape::max_intermediate_size() const {
  return largest(layers, [](const LayerShape& layer) { return layer.intermediate_size; });
}

std::size_t ModelShape::max_kv_width() const {
  return largest(layers, [](const LayerShape& layer) { return layer.kv_heads * layer.head_dim; });
}

std::size_t ModelShape::max_head_dim() const {
  return largest(layers, [](const LayerShape& layer) { return layer.head_dim; });
}

}  // namespace gemlet
