#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/gguf.hpp"
#include "gemlet/gemlet.hpp"
#include "tensor/compute.hpp"

namespace gemlet {

/// An encoder of pictures: a square of one of its sizes becomes soft tokens, embeddings of the text model, row by row.
///
/// Immutable; any number of pictures may be encoded at once, each with a Compute of its own.
class VisionEncoder {
 public:
  struct Shape {
    std::vector<std::size_t> sizes;  ///< the sides, in pixels, of the squares that it takes, in increasing order
    std::size_t default_size = 0;    ///< one of them
    std::size_t hidden_size = 0;     ///< of the text model: the floats of a soft token
    std::size_t rows = 0;            ///< of a picture: its soft tokens, and the mark behind them if that is one
    std::string begin, end;          ///< the text's pieces around a picture; `end` is empty where the last row marks it
  };

  /// The encoder that the file holds, a model with its encoders or a separate one (an "mmproj"), which must outlive
  /// it; null if it holds none. Throws Error naming the key or tensor.
  static std::unique_ptr<const VisionEncoder> read(const GgufFile& file);

  virtual ~VisionEncoder() = default;
  VisionEncoder(const VisionEncoder&) = delete;
  VisionEncoder& operator=(const VisionEncoder&) = delete;

  virtual const Shape& shape() const = 0;

  /// `pixels` is uint8[size][size][3] (red, green, blue); returns float[rows][hidden size]: the soft tokens, and
  /// behind them perhaps a mark of their end. `progress` is called with the share of the work that is done. Throws
  /// Error(argument) for a size that it does not take, Error(cancelled).
  std::vector<float> encode(std::span<const std::uint8_t> pixels, std::size_t size, Compute& compute,
                            const Cancel* cancel = nullptr, const std::function<void(float)>& progress = {}) const;

  /// Throws Error(argument) for a size that it does not take, listing those that it does.
  void check_size(long long size) const;

 protected:
  VisionEncoder() = default;

 private:
  /// Of a picture whose size is right.
  virtual std::vector<float> run(std::span<const std::uint8_t> pixels, std::size_t size, Compute& compute,
                                 const Cancel* cancel, const std::function<void(float)>& progress) const = 0;
};

}  // namespace gemlet
