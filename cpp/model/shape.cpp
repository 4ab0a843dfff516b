#include "model/shape.hpp"

#include <algorithm>

namespace gemlet {

bool ModelShape::media_attend_both_ways() const {
  return std::any_of(layers.begin(), layers.end(),
                     [](const LayerShape& layer) { return layer.media_attend_both_ways; });
}

std::size_t ModelShape::max_intermediate_size() const {
  std::size_t most = 0;
  for (const LayerShape& layer : layers) most = std::max(most, layer.intermediate_size);
  return most;
}

}  // namespace gemlet
