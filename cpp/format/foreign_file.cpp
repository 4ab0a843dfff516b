#include "format/foreign_file.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

namespace gemlet {
namespace {

char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool begins_with(std::string_view text, std::string_view lower_case) {
  return text.size() >= lower_case.size() &&
         std::equal(lower_case.begin(), lower_case.end(), text.begin(),
                    [](char wanted, char found) { return wanted == to_lower(found); });
}

std::string_view skip_space(std::string_view text) {
  if (constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF"; text.starts_with(byte_order_mark)) {
    text.remove_prefix(byte_order_mark.size());
  }
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  return begin == std::string_view::npos ? std::string_view() : text.substr(begin);
}

/// "a git-LFS pointer to 4235 bytes that were not downloaded ...".
std::string describe_pointer(std::string_view text) {
  constexpr std::string_view field = "\nsize ";
  std::string size = "a file";
  if (const std::size_t found = text.find(field); found != std::string_view::npos) {
    const std::string_view rest = text.substr(found + field.size());
    constexpr std::size_t max_digits = 20;
    const std::string_view number = rest.substr(0, std::min(rest.find_first_not_of("0123456789"), max_digits));
    if (!number.empty()) size = std::string(number) + " bytes";
  }
  return "a git-LFS pointer to " + size + " that were never fetched: run \"git lfs pull\", or download the file itself";
}

}  // namespace

std::string describe_foreign_file(std::span<const std::byte> bytes) {
  constexpr std::size_t looked_at = 1024;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), looked_at));
  if (text.starts_with("version https://git-lfs.github.com/spec/") || text.starts_with("version https://hawser.")) {
    return describe_pointer(text);
  }
  const std::string_view visible = skip_space(text);
  if (begins_with(visible, "<!doctype html") || begins_with(visible, "<html")) {
    return "an HTML page, which a site answers with in place of a download that fails or asks for a login";
  }
  for (const std::string_view magic : {"lmgg", "fmgg", "tjgg", "algg"}) {
    if (text.starts_with(magic)) return "of GGML, the format before GGUF: convert it again or find a GGUF file";
  }
  if (text.starts_with("PK\x03\x04")) return "a ZIP archive (a PyTorch checkpoint, perhaps)";
  std::uint64_t header_bytes = 0;  // of safetensors: a length, then JSON
  if (text.size() > sizeof(header_bytes)) {
    std::memcpy(&header_bytes, text.data(), sizeof(header_bytes));
    if (text[sizeof(header_bytes)] == '{' && header_bytes < bytes.size()) {
      return "of safetensors: convert its folder to GGUF first (gemlet convert)";
    }
  }
  return {};
}

}  // namespace gemlet
