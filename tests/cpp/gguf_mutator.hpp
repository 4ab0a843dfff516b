#pragma once

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "gguf_builder.hpp"
#include "tiny_gemma3n.hpp"

// Makes a hostile file of a good one. The same (builder, seed) gives the same file everywhere.
namespace gguf {

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed * 0x2545f4914f6cdd1d + 1) {}

  std::string mutate(const Builder& good) {
    switch (random_.below(8)) {
      case 0:
        return edit_bytes(good.build());
      case 1:
        return truncate_or_extend(good.build());
      case 2:
      case 3:
        return edit_fields(good.build());
      default:
        break;
    }
    Builder bad = good;
    edit(bad);
    if (random_.below(4) == 0) edit(bad);
    Image image = bad.build();
    return random_.below(16) == 0 ? edit_fields(std::move(image)) : image.bytes;
  }

 private:
  template <typename T>
  T& pick(std::vector<T>& items) {
    return items[random_.below(items.size())];
  }

  std::size_t pick_position(std::size_t size) { return static_cast<std::size_t>(random_.below(size)); }

  /// Numbers that break arithmetic on sizes, and neighbours of the one that was there.
  std::uint64_t hostile_number(std::uint64_t original, std::uint64_t file_bytes) {
    const std::uint64_t power = std::uint64_t{1} << random_.below(64);
    switch (random_.below(14)) {
      case 0:
        return 0;
      case 1:
        return std::numeric_limits<std::uint64_t>::max() - random_.below(64);
      case 2:
        return power;
      case 3:
        return power - 1;
      case 4:
        return power + 1;
      case 5:
        return original + 1;
      case 6:
        return original - 1;
      case 7:
        return original * 2;
      case 8:
        return original / 2;
      case 9:
        return original ^ power;
      case 10:
        return file_bytes + random_.below(64) - 32;
      case 11:
        return random_.below(64);
      case 12:
        return original + 32 * (1 + random_.below(8));
      default:
        return random_.next();
    }
  }

  float hostile_float() {
    constexpr float values[] = {0.0F,
                                -0.0F,
                                -1.0F,
                                1.0F,
                                1e-45F,
                                1e-20F,
                                1e20F,
                                std::numeric_limits<float>::max(),
                                std::numeric_limits<float>::infinity(),
                                -std::numeric_limits<float>::infinity(),
                                std::numeric_limits<float>::quiet_NaN()};
    return values[random_.below(std::size(values))];
  }

  std::string hostile_text() {
    switch (random_.below(7)) {
      case 0:
        return "";
      case 1:
        return std::string(1, '\0');
      case 2:
        return "\xf0\x9f\x98";  // an unfinished character
      case 3:
        return std::string(static_cast<std::size_t>(random_.below(300)), 'a');
      case 4:
        return "<0x" + std::string(1, static_cast<char>(random_.next())) + "G>";
      case 5:
        return pick(words_);
      default: {
        std::string text(static_cast<std::size_t>(random_.below(9)), ' ');
        for (char& c : text) c = static_cast<char>(random_.next());
        return text;
      }
    }
  }

  /// Bits, copied pieces, inserted and removed bytes; half of the time in the header, which is the smaller part.
  std::string edit_bytes(Image image) {
    std::string& bytes = image.bytes;
    const std::size_t header = image.fields.back().at;
    const std::size_t end = random_.below(2) == 0 ? header : bytes.size();
    const std::uint64_t edits = 1 + random_.below(8);
    for (std::uint64_t i = 0; i < edits; ++i) {
      const std::size_t at = pick_position(std::min(end, bytes.size()));
      switch (random_.below(5)) {
        case 0:
          bytes.insert(at, pick_position(9), static_cast<char>(random_.next()));
          break;
        case 1:
          bytes.erase(at, 1 + pick_position(8));
          break;
        case 2:
          bytes.replace(at, std::min<std::size_t>(16, bytes.size() - at),
                        bytes.substr(pick_position(std::min(end, bytes.size())), 16));
          break;
        default:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << random_.below(8)));
      }
    }
    return bytes;
  }

  std::string truncate_or_extend(Image image) {
    if (random_.below(4) == 0) return image.bytes + std::string(pick_position(100), '\x7f');
    const std::size_t end = random_.below(2) == 0 ? image.fields.back().at : image.bytes.size();
    image.bytes.resize(pick_position(end));
    return image.bytes;
  }

  std::string edit_fields(Image image) {
    const std::uint64_t edits = 1 + random_.below(3);
    for (std::uint64_t i = 0; i < edits; ++i) {
      const Field& field = random_.below(3) == 0 ? image.fields[random_.below(4)] : pick(image.fields);
      image.set(field, hostile_number(image.get(field), image.bytes.size()));
    }
    return image.bytes;
  }

  /// One change that the file's structure survives, so that later code has to see it.
  void edit(Builder& file) {
    switch (random_.below(12)) {
      case 0:
        file.metadata.erase(file.metadata.begin() + static_cast<std::ptrdiff_t>(random_.below(file.metadata.size())));
        break;
      case 1:
        file.tensors.erase(file.tensors.begin() + static_cast<std::ptrdiff_t>(random_.below(file.tensors.size())));
        break;
      case 2: {
        const Pair copy = pick(file.metadata);
        file.metadata.push_back(copy);
        break;
      }
      case 3: {  // another tensor's type, shape and data under this name
        const std::string name = pick(file.tensors).name;
        const TensorSpec copy = pick(file.tensors);
        file.tensor(name) = {name, copy.type, copy.dims, copy.data};
        break;
      }
      case 4: {
        std::string& text = random_.below(2) == 0 ? pick(file.metadata).key : pick(file.tensors).name;
        if (!text.empty()) text[pick_position(text.size())] = static_cast<char>(random_.next());
        break;
      }
      case 5: {  // another pair's value under this key
        Pair& pair = pick(file.metadata);
        const std::string key = pair.key;
        pair = pick(file.metadata);
        pair.key = key;
        break;
      }
      case 6:
        reshape(pick(file.tensors));
        break;
      case 7:
        edit_data(pick(file.tensors).data);
        break;
      case 8:
      case 9:
        edit_value(pick(file.metadata));
        break;
      default:
        edit_array(pick(file.metadata));
    }
  }

  /// Another shape or type with as much data as that takes.
  void reshape(TensorSpec& tensor) {
    if (random_.below(2) == 0) {
      std::uint64_t& dim = pick(tensor.dims);
      dim = std::max<std::uint64_t>(1, std::min<std::uint64_t>(hostile_number(dim, 4096), 4096));
    } else if (random_.below(2) == 0 && tensor.dims.size() < 4) {
      tensor.dims.push_back(1);
    } else if (tensor.dims.size() > 1) {
      std::reverse(tensor.dims.begin(), tensor.dims.end());
    }
    if (random_.below(3) == 0) {
      constexpr std::uint32_t types[] = {0, 1, 2, 8, 12, 13, 14, 30, 31, 99};
      tensor.type = types[random_.below(std::size(types))];
    }
    const gemlet::DTypeTraits* stored = gemlet::find_dtype(tensor.type);
    std::uint64_t elements = 1;
    for (const std::uint64_t dim : tensor.dims) elements *= dim;
    if (stored != nullptr)
      tensor.data.resize(std::min<std::uint64_t>(elements / stored->elements * stored->bytes, 1 << 20));
  }

  void edit_data(std::string& data) {
    if (data.empty()) return;
    constexpr char fillers[] = {'\0', '\xff', '\x7f', '\x7c', '\x80'};  // zero, NaN, large and infinite numbers
    const char filler = fillers[random_.below(std::size(fillers))];
    const std::size_t at = pick_position(data.size());
    const std::size_t count = random_.below(2) == 0 ? data.size() : 1 + pick_position(64);
    std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(at), std::min(count, data.size() - at), filler);
  }

  void edit_value(Pair& pair) {
    if (pair.type == string) {
      pair.payload = hostile_text();
    } else if (pair.type == f32) {
      pair.payload = to_bytes(hostile_float());
    } else if (pair.type == array) {
      edit_array(pair);
    } else {
      std::uint64_t value = 0;
      std::memcpy(&value, pair.payload.data(), pair.payload.size());
      value = hostile_number(value, 300000);
      std::memcpy(pair.payload.data(), &value, pair.payload.size());
    }
  }

  void edit_array(Pair& pair) {
    if (pair.type != array) return edit_value(pair);
    if (pair.element_type == string) {
      const std::uint64_t edits = random_.below(3) == 0 ? pair.strings.size() : 1 + random_.below(4);
      for (std::uint64_t i = 0; i < edits && !pair.strings.empty(); ++i) pick(pair.strings) = hostile_text();
      if (random_.below(6) == 0) pair.strings.resize(random_.below(2 * pair.strings.size() + 1));
    } else if (pair.count > 0) {
      const std::size_t width = pair.payload.size() / pair.count;
      const std::uint64_t edits = random_.below(3) == 0 ? pair.count : 1 + random_.below(4);
      for (std::uint64_t i = 0; i < edits; ++i) {
        const std::string value =
            pair.element_type == f32 ? to_bytes(hostile_float()) : to_bytes(hostile_number(random_.below(8), 300));
        pair.payload.replace(random_.below(pair.count) * width, width, value, 0, width);
      }
      if (random_.below(6) == 0) {
        pair.count = random_.below(2 * pair.count + 1);
        pair.payload.resize(pair.count * width);
      }
    }
  }

  tiny::Random random_;
  std::vector<std::string> words_ = {"llama",  "gpt2",  "gemma",  "gemma3n", "gemma4",          "<bos>",
                                     "<0x0A>", "hello", "\u2581", "a",       "<start_of_turn>", "no_such"};
};

}  // namespace gguf
