#include "format/split_file.hpp"

#include <algorithm>
#include <charconv>
#include <functional>
#include <string_view>
#include <system_error>
#include <utility>

#include "gemlet/error.hpp"

namespace gemlet {
namespace {

constexpr std::uint32_t max_parts = 512;  // each keeps a file open; the largest models have some fifty

constexpr std::string_view extension = ".gguf";
constexpr std::string_view separator = "-of-";
constexpr std::size_t digits = 5;

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what,
                       Error::Kind kind = Error::Kind::format) {
  throw Error(kind, path.string() + ": " + what);
}

/// Exactly five digits.
std::optional<std::uint32_t> parse_number(std::string_view text) {
  std::uint32_t value = 0;
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string padded(std::uint32_t number) {
  const std::string text = std::to_string(number);
  return std::string(digits - std::min(digits, text.size()), '0') + text;
}

/// Checks that a part is the one that its name says, and that all were cut from one file.
void check_part(const GgufPart& part, const SplitName& name, std::uint32_t number, std::uint32_t all_tensors) {
  const GgufMetadata& metadata = part.contents.metadata;
  const auto expect = [&](const char* key, std::uint32_t expected, const std::string& why) {
    const std::uint32_t found = metadata.get_u32(key);
    if (found != expected) {
      fail(part.file.path(),
           std::string(key) + " is " + std::to_string(found) + ", expected " + std::to_string(expected) + " " + why);
    }
  };
  expect("split.count", name.count, "as in the file's name");
  expect("split.no", number - 1, "by the file's name (counted from 0)");
  expect("split.tensors.count", all_tensors, "as in " + name.part(name.number));
}

/// Where the parts are and what they are called. A link of another name is followed to the part itself.
std::pair<std::filesystem::path, SplitName> find_name(const std::filesystem::path& path, std::uint32_t count) {
  if (const auto name = SplitName::parse(path.filename().string())) return {path.parent_path(), *name};
  std::error_code ignored;
  const std::filesystem::path target = std::filesystem::canonical(path, ignored);
  if (const auto name = SplitName::parse(target.filename().string())) return {target.parent_path(), *name};
  fail(path, "is one of the " + std::to_string(count) + " parts of a model; its name, expected to end in -00001-of-" +
                 padded(count) + ".gguf or the like, does not lead to the others");
}

/// Says which part it is that cannot be opened.
void open_part(const std::function<void()>& open, const std::filesystem::path& given, std::uint32_t number,
               std::uint32_t count) {
  try {
    open();
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::io) throw;
    fail(given, "part " + std::to_string(number) + " of " + std::to_string(count) + " is missing: " + error.what(),
         Error::Kind::io);
  }
}

}  // namespace

std::optional<SplitName> SplitName::parse(const std::string& file_name) {
  // stem - 00002 -of- 00003 .gguf
  constexpr std::size_t tail = 1 + digits + separator.size() + digits + extension.size();
  if (file_name.size() <= tail || !file_name.ends_with(extension)) return std::nullopt;
  const std::string_view text = std::string_view(file_name).substr(file_name.size() - tail);
  if (text[0] != '-' || text.substr(1 + digits, separator.size()) != separator) return std::nullopt;
  const auto number = parse_number(text.substr(1, digits));
  const auto count = parse_number(text.substr(1 + digits + separator.size(), digits));
  if (!number || !count || *number < 1 || *number > *count) return std::nullopt;
  return SplitName{file_name.substr(0, file_name.size() - tail), *number, *count};
}

std::string SplitName::part(std::uint32_t other) const {
  return stem + "-" + padded(other) + std::string(separator) + padded(count) + std::string(extension);
}

std::deque<GgufPart> open_parts(const std::filesystem::path& path) {
  std::deque<GgufPart> parts;
  parts.emplace_back(path);
  const GgufMetadata& metadata = parts.front().contents.metadata;
  const std::uint32_t count = metadata.find_u32("split.count", 1);
  if (count <= 1) return parts;
  if (count > max_parts) {
    fail(path, "split.count is " + std::to_string(count) + ", expected at most " + std::to_string(max_parts),
         Error::Kind::unsupported);
  }
  const auto [directory, name] = find_name(path, count);
  const std::uint32_t all_tensors = metadata.get_u32("split.tensors.count");
  check_part(parts.front(), name, name.number, all_tensors);

  const auto check = [&](GgufPart& part, std::uint32_t number) {
    check_part(part, name, number, all_tensors);
    if (number > 1) part.contents.metadata = {};  // the first part's counts
  };
  // By their numbers, from the given one outwards.
  for (std::uint32_t number = name.number - 1; number >= 1; --number) {
    open_part([&] { parts.emplace_front(directory / name.part(number)); }, path, number, count);
    check(parts.front(), number);
  }
  for (std::uint32_t number = name.number + 1; number <= count; ++number) {
    open_part([&] { parts.emplace_back(directory / name.part(number)); }, path, number, count);
    check(parts.back(), number);
  }
  std::size_t found = 0;
  for (const GgufPart& part : parts) found += part.contents.tensors.size() + part.contents.opaque_tensors.size();
  if (found != all_tensors) {
    fail(path, "its " + std::to_string(count) + " parts have " + std::to_string(found) + " tensors, expected " +
                   std::to_string(all_tensors) + " (split.tensors.count)");
  }
  return parts;
}

}  // namespace gemlet
