#pragma once

#include <cstdint>

namespace gemlet {

/// What the forward passes of an engine have done since it was loaded.
struct Work {
  std::uint64_t weight_bytes = 0;   ///< of weight matrices streamed from memory, once for each product
  std::uint64_t multiply_adds = 0;  ///< of weights with activations
  std::uint64_t barriers = 0;       ///< parallel loops: at the end of each the threads wait for one another

  Work& operator+=(const Work& other) {
    weight_bytes += other.weight_bytes;
    multiply_adds += other.multiply_adds;
    barriers += other.barriers;
    return *this;
  }
};

}  // namespace gemlet
