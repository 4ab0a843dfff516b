#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// What a slice has to know of a layer.
struct SliceableLayer {
  std::size_t index = 0;     ///< in the file
  std::size_t kv_layer = 0;  ///< index of the layer whose keys and values it reads
  std::size_t width = 0;     ///< of the feed-forward part
  std::size_t block = 1;     ///< a slice's width is a multiple of this: the rows of `down` are cut between blocks
};

struct KeptLayer {
  std::size_t place = 0;  ///< among the layers that were given
  std::size_t width = 0;
};

/// What the slice keeps, in order. Throws Error(argument), saying what was asked for and what is possible.
std::vector<KeptLayer> apply_slice(const Slice& slice, std::span<const SliceableLayer> layers);

}  // namespace gemlet
