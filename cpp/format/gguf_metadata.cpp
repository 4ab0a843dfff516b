#include "format/gguf_metadata.hpp"

#include <cmath>
#include <limits>
#include <optional>
#include <type_traits>

#include "gemlet/error.hpp"

namespace gemlet {
namespace {

/// What a value is, for "found ..." in a message.
std::string describe(const GgufValue& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, bool>) {
          return v ? "true" : "false";
        } else if constexpr (std::is_arithmetic_v<T>) {
          return std::to_string(v);
        } else if constexpr (std::is_same_v<T, std::string_view>) {
          return "the string " + quote(v);
        } else {
          const char* what = std::is_same_v<T, std::vector<bool>>           ? " bools"
                             : std::is_same_v<T, std::vector<std::int64_t>> ? " integers"
                             : std::is_same_v<T, std::vector<double>>       ? " numbers"
                                                                            : " strings";
          return "an array of " + std::to_string(v.size()) + what;
        }
      },
      value);
}

[[noreturn]] void fail(const GgufMetadata& file, std::string_view key, const std::string& what) {
  throw Error(Error::Kind::format, file.path().string() + ": metadata " + quote(key) + ": " + what);
}

[[noreturn]] void fail_type(const GgufMetadata& file, std::string_view key, const char* expected,
                            const GgufValue& found) {
  fail(file, key, "expected " + std::string(expected) + ", found " + describe(found));
}

const GgufValue* find(const GgufMetadata& file, std::string_view key) {
  const auto found = file.values().find(key);
  return found == file.values().end() ? nullptr : &found->second;
}

const GgufValue& get(const GgufMetadata& file, std::string_view key) {
  const GgufValue* value = find(file, key);
  if (value == nullptr) fail(file, key, "missing");
  return *value;
}

std::optional<std::uint32_t> as_u32(const GgufValue& value) {
  constexpr std::uint32_t max = std::numeric_limits<std::uint32_t>::max();
  if (const auto* u = std::get_if<std::uint64_t>(&value); u != nullptr && *u <= max) {
    return static_cast<std::uint32_t>(*u);
  }
  if (const auto* i = std::get_if<std::int64_t>(&value); i != nullptr && *i >= 0 && *i <= std::int64_t{max}) {
    return static_cast<std::uint32_t>(*i);
  }
  return std::nullopt;
}

/// A double beyond float's range is refused; infinities and NaN are values that both have.
std::optional<float> as_f32(double value) {
  if (std::isfinite(value) && std::abs(value) > double{std::numeric_limits<float>::max()}) return std::nullopt;
  return static_cast<float>(value);
}

constexpr const char* u32_range = "an integer from 0 to 4294967295";
constexpr const char* f32_range = "a float";

/// The typed array `Stored`, or a scalar as `count` equal values; `convert` gives nothing for a value out of range.
template <typename T, typename Stored, typename Convert, typename ConvertScalar>
std::vector<T> get_values(const GgufMetadata& file, std::string_view key, std::size_t count, const char* expected,
                          Convert convert, ConvertScalar convert_scalar) {
  const GgufValue& value = get(file, key);
  if (const std::optional<T> scalar = convert_scalar(value)) return std::vector<T>(count, *scalar);
  const auto* stored = std::get_if<std::vector<Stored>>(&value);
  if (stored == nullptr) fail_type(file, key, (std::string(expected) + ", or an array of them").c_str(), value);
  if (stored->size() != count) {
    fail(file, key, "expected " + std::to_string(count) + " values, found " + std::to_string(stored->size()));
  }
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::optional<T> converted = convert((*stored)[i]);
    if (!converted) {
      fail(file, key,
           "element " + std::to_string(i) + ": expected " + expected + ", found " + std::to_string((*stored)[i]));
    }
    values[i] = *converted;
  }
  return values;
}

}  // namespace

bool GgufMetadata::contains(std::string_view key) const { return find(*this, key) != nullptr; }

bool GgufMetadata::is_array(std::string_view key) const {
  const GgufValue* value = find(*this, key);
  return value != nullptr && std::visit(
                                 [](const auto& v) {
                                   using T = std::decay_t<decltype(v)>;
                                   return !std::is_arithmetic_v<T> && !std::is_same_v<T, std::string_view>;
                                 },
                                 *value);
}

std::uint32_t GgufMetadata::get_u32(std::string_view key) const {
  const GgufValue& value = get(*this, key);
  const std::optional<std::uint32_t> number = as_u32(value);
  if (!number) fail_type(*this, key, u32_range, value);
  return *number;
}

std::uint32_t GgufMetadata::find_u32(std::string_view key, std::uint32_t fallback) const {
  return contains(key) ? get_u32(key) : fallback;
}

float GgufMetadata::get_f32(std::string_view key) const {
  const GgufValue& value = get(*this, key);
  const auto* number = std::get_if<double>(&value);
  const std::optional<float> narrow = number == nullptr ? std::nullopt : as_f32(*number);
  if (!narrow || !std::isfinite(*narrow)) fail_type(*this, key, "a finite float", value);
  return *narrow;
}

float GgufMetadata::find_f32(std::string_view key, float fallback) const {
  return contains(key) ? get_f32(key) : fallback;
}

bool GgufMetadata::find_bool(std::string_view key, bool fallback) const {
  const GgufValue* value = find(*this, key);
  if (value == nullptr) return fallback;
  const auto* flag = std::get_if<bool>(value);
  if (flag == nullptr) fail_type(*this, key, "a bool", *value);
  return *flag;
}

std::string_view GgufMetadata::get_string(std::string_view key) const {
  const GgufValue& value = get(*this, key);
  const auto* text = std::get_if<std::string_view>(&value);
  if (text == nullptr) fail_type(*this, key, "a string", value);
  return *text;
}

std::string_view GgufMetadata::find_string(std::string_view key, std::string_view fallback) const {
  return contains(key) ? get_string(key) : fallback;
}

const GgufStrings& GgufMetadata::get_strings(std::string_view key) const {
  const GgufValue& value = get(*this, key);
  const auto* strings = std::get_if<GgufStrings>(&value);
  if (strings == nullptr) fail_type(*this, key, "an array of strings", value);
  return *strings;
}

const std::vector<std::int64_t>& GgufMetadata::get_integers(std::string_view key) const {
  const GgufValue& value = get(*this, key);
  const auto* integers = std::get_if<std::vector<std::int64_t>>(&value);
  if (integers == nullptr) fail_type(*this, key, "an array of integers", value);
  return *integers;
}

const std::vector<double>& GgufMetadata::get_numbers(std::string_view key) const {
  const GgufValue& value = get(*this, key);
  const auto* numbers = std::get_if<std::vector<double>>(&value);
  if (numbers == nullptr) fail_type(*this, key, "an array of numbers", value);
  return *numbers;
}

std::vector<std::uint32_t> GgufMetadata::get_u32s(std::string_view key, std::size_t count) const {
  return get_values<std::uint32_t, std::int64_t>(
      *this, key, count, u32_range, [](std::int64_t v) { return as_u32(v); }, as_u32);
}

std::vector<float> GgufMetadata::get_f32s(std::string_view key, std::size_t count) const {
  return get_values<float, double>(*this, key, count, f32_range, as_f32, [](const GgufValue& v) {
    const auto* number = std::get_if<double>(&v);
    return number == nullptr ? std::optional<float>() : as_f32(*number);
  });
}

std::vector<bool> GgufMetadata::get_bools(std::string_view key, std::size_t count) const {
  return get_values<bool, bool>(
      *this, key, count, "a bool", [](bool v) { return std::optional<bool>(v); },
      [](const GgufValue& v) {
        const auto* flag = std::get_if<bool>(&v);
        return flag == nullptr ? std::optional<bool>() : std::optional<bool>(*flag);
      });
}

std::string quote(std::string_view text) {
  constexpr std::size_t max_shown = 80;
  constexpr const char* digits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text.substr(0, max_shown)) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c >= 0x20 && c <= 0x7e) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    }
  }
  out += text.size() > max_shown ? "...\"" : "\"";
  return out;
}

}  // namespace gemlet
