#include "bindings/hyperparameter_text.hpp"

#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace gemlet {
namespace {

void append_json(std::string& out, bool value) { out += value ? "true" : "false"; }

void append_json(std::string& out, std::int64_t value) { out += std::to_string(value); }

/// The shortest text that reads back as the same number.
void append_json(std::string& out, double value) {
  std::array<char, 32> digits;
  const std::to_chars_result end = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  out.append(digits.data(), end.ptr);
}

void append_json(std::string& out, std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      out += "\\u00";
      out += hex[byte >> 4];
      out += hex[byte & 15];
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
  }
  out += '"';
}

template <typename T>
void append_json(std::string& out, const std::vector<T>& list) {
  out += '[';
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (i > 0) out += ", ";
    append_json(out, static_cast<std::conditional_t<std::is_same_v<T, bool>, bool, const T&>>(list[i]));
  }
  out += ']';
}

}  // namespace

std::string hyperparameter_text(const Hyperparameter& value) {
  if (const std::string* text = std::get_if<std::string>(&value)) return *text;
  std::string out;
  std::visit([&](const auto& held) { append_json(out, held); }, value);
  return out;
}

}  // namespace gemlet
