#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/dtype.hpp"

// Writes GGUF files for tests, good ones and, by editing what it wrote, every kind of bad one.
namespace gguf {

/// Value types of metadata, as GGUF numbers them.
enum ValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

template <typename T>
std::string to_bytes(const T& value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

/// A number inside a built file: where it is, so that a test can put another one there.
struct Field {
  std::string name;  ///< "header.version", "KEY:type", "TENSOR:offset"
  std::size_t at = 0;
  std::size_t bytes = 0;
};

/// A built file.
struct Image {
  std::string bytes;
  std::vector<Field> fields;

  const Field& field(std::string_view name) const {
    for (const Field& f : fields) {
      if (f.name == name) return f;
    }
    throw std::out_of_range("no field " + std::string(name));
  }
  void set(const Field& f, std::uint64_t value) { std::memcpy(bytes.data() + f.at, &value, f.bytes); }
  void set(std::string_view name, std::uint64_t value) { set(field(name), value); }
  std::uint64_t get(const Field& f) const {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + f.at, f.bytes);
    return value;
  }
};

struct Pair {
  std::string key{};
  std::uint32_t type = 0;
  std::string payload{};  ///< a string's text; an array's elements, without type and length; else the value's bytes
  std::uint32_t element_type = 0;
  std::vector<std::string> strings{};  ///< the elements of an array of strings
  std::uint64_t count = 0;             ///< of other arrays
};

struct TensorSpec {
  std::string name;
  std::uint32_t type = 0;
  std::vector<std::uint64_t> dims;  ///< innermost first, as GGUF stores them
  std::string data;
};

struct Builder {
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  std::vector<Pair> metadata;
  std::vector<TensorSpec> tensors;

  template <typename T>
  void scalar(std::string key, ValueType type, T value) {
    metadata.push_back({.key = std::move(key), .type = type, .payload = to_bytes(value)});
  }
  void add_u32(std::string key, std::uint32_t value) { scalar(std::move(key), u32, value); }
  void add_f32(std::string key, float value) { scalar(std::move(key), f32, value); }
  void add_bool(std::string key, bool value) { scalar(std::move(key), boolean, static_cast<std::uint8_t>(value)); }
  void add_string(std::string key, std::string value) {
    metadata.push_back({.key = std::move(key), .type = string, .payload = std::move(value)});
  }
  void add_strings(std::string key, std::vector<std::string> values) {
    metadata.push_back({.key = std::move(key), .type = array, .element_type = string, .strings = std::move(values)});
  }
  template <typename T>
  void add_array(std::string key, ValueType element_type, const std::vector<T>& values) {
    std::string payload;
    for (const T& value : values) payload += to_bytes(value);
    metadata.push_back({.key = std::move(key),
                        .type = array,
                        .payload = std::move(payload),
                        .element_type = element_type,
                        .count = values.size()});
  }
  void add_tensor(std::string name, std::uint32_t type, std::vector<std::uint64_t> dims, std::string data) {
    tensors.push_back({std::move(name), type, std::move(dims), std::move(data)});
  }
  void add_floats(std::string name, std::vector<std::uint64_t> dims, const std::vector<float>& values) {
    std::string data(values.size() * sizeof(float), '\0');
    std::memcpy(data.data(), values.data(), data.size());
    add_tensor(std::move(name), 0, std::move(dims), std::move(data));
  }

  Pair& pair(std::string_view key) { return find(metadata, &Pair::key, key); }
  TensorSpec& tensor(std::string_view name) { return find(tensors, &TensorSpec::name, name); }

  Image build() const {
    Image image;
    const auto put = [&](std::string field, const auto& value) {
      image.fields.push_back({std::move(field), image.bytes.size(), sizeof(value)});
      image.bytes += to_bytes(value);
    };
    const auto put_string = [&](const std::string& field, const std::string& text) {
      put(field, std::uint64_t{text.size()});
      image.bytes += text;
    };
    put("header.magic", std::uint32_t{0x46554747});
    put("header.version", version);
    put("header.tensor_count", std::uint64_t{tensors.size()});
    put("header.metadata_count", std::uint64_t{metadata.size()});
    for (const Pair& pair : metadata) {
      put_string(pair.key + ":key_length", pair.key);
      put(pair.key + ":type", pair.type);
      if (pair.type == string) {
        put_string(pair.key + ":string_length", pair.payload);
      } else if (pair.type == array) {
        put(pair.key + ":element_type", pair.element_type);
        const bool strings = pair.element_type == string;
        put(pair.key + ":array_length", strings ? std::uint64_t{pair.strings.size()} : pair.count);
        for (const std::string& text : pair.strings) put_string(pair.key + ":element_length", text);
        image.bytes += pair.payload;
      } else {
        image.fields.push_back({pair.key + ":value", image.bytes.size(), pair.payload.size()});
        image.bytes += pair.payload;
      }
    }
    std::uint64_t offset = 0;
    for (const TensorSpec& tensor : tensors) {
      put_string(tensor.name + ":name_length", tensor.name);
      put(tensor.name + ":rank", static_cast<std::uint32_t>(tensor.dims.size()));
      for (std::size_t i = 0; i < tensor.dims.size(); ++i)
        put(tensor.name + ":dim" + std::to_string(i), tensor.dims[i]);
      put(tensor.name + ":type", tensor.type);
      put(tensor.name + ":offset", offset);
      offset = align(offset + tensor.data.size());
    }
    for (const TensorSpec& tensor : tensors) {
      image.bytes.resize(align(image.bytes.size()), '\0');
      image.bytes += tensor.data;
    }
    return image;
  }

 private:
  std::uint64_t align(std::uint64_t position) const { return (position + alignment - 1) / alignment * alignment; }

  template <typename T>
  static T& find(std::vector<T>& items, std::string T::* name, std::string_view wanted) {
    for (T& item : items) {
      if (item.*name == wanted) return item;
    }
    throw std::out_of_range("no " + std::string(wanted));
  }
};

/// A directory of its own that is removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "gemlet-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make " + pattern);
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Writes `bytes` to a file of this name and returns its path.
  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    const std::filesystem::path file = path_ / name;
    std::ofstream out(file, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) throw std::runtime_error("cannot write " + file.string());
    return file;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace gguf
