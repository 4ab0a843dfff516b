#include "format/gguf_header.hpp"

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "format/foreign_file.hpp"
#include "gemlet/error.hpp"

namespace gemlet {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF values are read as they lie in the file");

// GGUF's own limits, and ours: generous for any model, and small enough that no file, however large, makes the reader
// take more than a few hundred megabytes.
constexpr std::size_t max_key_bytes = 65535;
constexpr std::size_t max_tensor_name_bytes = 64;
constexpr std::uint64_t max_entries = 65536;  // metadata pairs; tensors
constexpr std::uint64_t max_array_elements = std::uint64_t{1} << 24;
constexpr std::uint64_t default_alignment = 32;

// The least that one entry takes in the file: an empty-valued pair (length, one character, type, one byte) and a tensor
// (length, one character, rank, one dimension, type, offset).
constexpr std::uint64_t min_metadata_bytes = 8 + 1 + 4 + 1;
constexpr std::uint64_t min_tensor_bytes = 8 + 1 + 4 + 8 + 4 + 8;

enum class ValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

const char* value_type_name(ValueType type) {
  constexpr const char* names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                   "bool", "string", "array", "u64", "i64", "f64"};
  return names[static_cast<std::size_t>(type)];
}

/// The usual name of a ggml type that is not read.
std::string unread_type_name(std::uint32_t id) {
  static constexpr std::pair<std::uint32_t, const char*> names[] = {
      {3, "Q4_1"},     {6, "Q5_0"},    {7, "Q5_1"},     {9, "Q8_1"},   {10, "Q2_K"},   {11, "Q3_K"},  {15, "Q8_K"},
      {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},
      {23, "IQ4_XS"},  {24, "I8"},     {25, "I16"},     {26, "I32"},   {27, "I64"},    {28, "F64"},   {29, "IQ1_M"},
      {34, "TQ1_0"},   {35, "TQ2_0"},  {39, "MXFP4"},   {40, "NVFP4"}};
  for (const auto& [known, name] : names) {
    if (known == id) return name;
  }
  return "number " + std::to_string(id);
}

/// Walks the file's header. Every read is checked against the end of the file; `subject` says in the messages what the
/// bytes belong to.
class HeaderReader {
 public:
  HeaderReader(const std::filesystem::path& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  std::span<const std::byte> bytes() const { return bytes_; }
  std::size_t position() const { return position_; }
  std::uint64_t remaining() const { return bytes_.size() - position_; }
  void set_subject(std::string subject) { subject_ = std::move(subject); }

  [[noreturn]] void fail(const std::string& what, Error::Kind kind = Error::Kind::format) const {
    throw Error(kind, path_.string() + ": " + (subject_.empty() ? "" : subject_ + ": ") + what);
  }

  template <typename T>
  T read(const char* field) {
    require(sizeof(T), field);
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string_view read_bytes(std::uint64_t length, const char* field) {
    require(length, field);
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + position_,
                                static_cast<std::size_t>(length));
    position_ += text.size();
    return text;
  }

  std::string_view read_string(const char* length_field, const char* field) {
    return read_bytes(read<std::uint64_t>(length_field), field);
  }

  /// A metadata key or a tensor name. Printable ASCII: GGUF asks for it, and messages show these names.
  std::string read_name(const char* field, std::size_t max_bytes) {
    const std::string length_field = std::string(field) + " length";
    const auto length = read<std::uint64_t>(length_field.c_str());
    if (length == 0 || length > max_bytes) {
      fail(length_field + " is " + std::to_string(length) + ", expected 1 to " + std::to_string(max_bytes));
    }
    const std::string_view name = read_bytes(length, field);
    if (!std::ranges::all_of(name, [](char c) { return c >= 0x20 && c <= 0x7e; })) {
      fail(std::string(field) + " " + quote(name) + " has characters other than printable ASCII");
    }
    return std::string(name);
  }

  /// A number of entries that each take at least `entry_bytes` of what is left of the file.
  std::uint64_t read_count(const char* field, std::uint64_t entry_bytes) {
    const auto count = read<std::uint64_t>(field);
    check_count(count, field, entry_bytes);
    return count;
  }

  GgufValue read_value() {
    const ValueType type = read_type("value type");
    switch (type) {
      case ValueType::u8:
        return std::uint64_t{read<std::uint8_t>("u8 value")};
      case ValueType::u16:
        return std::uint64_t{read<std::uint16_t>("u16 value")};
      case ValueType::u32:
        return std::uint64_t{read<std::uint32_t>("u32 value")};
      case ValueType::u64:
        return read<std::uint64_t>("u64 value");
      case ValueType::i8:
        return std::int64_t{read<std::int8_t>("i8 value")};
      case ValueType::i16:
        return std::int64_t{read<std::int16_t>("i16 value")};
      case ValueType::i32:
        return std::int64_t{read<std::int32_t>("i32 value")};
      case ValueType::i64:
        return read<std::int64_t>("i64 value");
      case ValueType::f32:
        return double{read<float>("f32 value")};
      case ValueType::f64:
        return read<double>("f64 value");
      case ValueType::boolean:
        return read_bool("bool value");
      case ValueType::string:
        return read_string("string length", "string");
      case ValueType::array:
        break;
    }
    return read_array();
  }

 private:
  void require(std::uint64_t needed, const char* field) const {
    if (needed > remaining()) {
      fail("truncated: " + std::string(field) + " at byte " + std::to_string(position_) + " takes " +
           std::to_string(needed) + " bytes, the file has " + std::to_string(remaining()) + " more");
    }
  }

  void check_count(std::uint64_t count, const char* field, std::uint64_t entry_bytes) const {
    if (count > remaining() / entry_bytes) {
      fail("truncated: " + std::string(field) + " is " + std::to_string(count) + ", which takes at least " +
           std::to_string(entry_bytes) + " bytes each, the file has " + std::to_string(remaining()) + " more");
    }
  }

  ValueType read_type(const char* field) {
    const auto type = read<std::uint32_t>(field);
    if (type > static_cast<std::uint32_t>(ValueType::f64)) {
      fail(std::string(field) + " is " + std::to_string(type) + ", expected 0 to 12");
    }
    return static_cast<ValueType>(type);
  }

  bool read_bool(const char* field) {
    const auto value = read<std::uint8_t>(field);
    if (value > 1) fail(std::string(field) + " is " + std::to_string(value) + ", expected 0 or 1");
    return value == 1;
  }

  GgufValue read_array() {
    const ValueType type = read_type("array element type");
    if (type == ValueType::array) fail("is an array of arrays, which no key that gemlet reads is");
    constexpr std::uint64_t element_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};  // a string: its length
    const std::uint64_t count = read_count("array length", element_bytes[static_cast<std::size_t>(type)]);
    array_elements_ += count;
    if (array_elements_ > max_array_elements) {
      fail("an array of " + std::to_string(count) + " " + value_type_name(type) +
               " values brings the metadata's arrays to " + std::to_string(array_elements_) +
               " values, expected at most " + std::to_string(max_array_elements),
           Error::Kind::unsupported);
    }
    switch (type) {
      case ValueType::u8:
        return read_elements<std::int64_t, std::uint8_t>(count);
      case ValueType::u16:
        return read_elements<std::int64_t, std::uint16_t>(count);
      case ValueType::u32:
        return read_elements<std::int64_t, std::uint32_t>(count);
      case ValueType::u64:
        return read_elements<std::int64_t, std::uint64_t>(count);
      case ValueType::i8:
        return read_elements<std::int64_t, std::int8_t>(count);
      case ValueType::i16:
        return read_elements<std::int64_t, std::int16_t>(count);
      case ValueType::i32:
        return read_elements<std::int64_t, std::int32_t>(count);
      case ValueType::i64:
        return read_elements<std::int64_t, std::int64_t>(count);
      case ValueType::f32:
        return read_elements<double, float>(count);
      case ValueType::f64:
        return read_elements<double, double>(count);
      case ValueType::boolean: {
        std::vector<bool> values(static_cast<std::size_t>(count));
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = read_bool("bool array element");
        return values;
      }
      case ValueType::string:
      case ValueType::array:
        break;
    }
    GgufStrings values(static_cast<std::size_t>(count));
    for (std::string_view& value : values) value = read_string("array string length", "array string");
    return values;
  }

  template <typename T, typename Stored>
  std::vector<T> read_elements(std::uint64_t count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& value : values) {
      const auto stored = read<Stored>("array element");
      if constexpr (std::same_as<Stored, std::uint64_t>) {
        if (stored > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
          fail("array element is " + std::to_string(stored) + ", expected less than 2^63");
        }
      }
      value = static_cast<T>(stored);
    }
    return values;
  }

  const std::filesystem::path& path_;
  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
  std::string subject_;
  std::uint64_t array_elements_ = 0;
};

struct Counts {
  std::uint64_t tensors = 0;
  std::uint64_t metadata = 0;
};

Counts read_header(HeaderReader& reader) {
  reader.set_subject("header");
  const std::string_view magic = reader.read_bytes(4, "magic");
  if (magic != "GGUF") {
    const std::string foreign = describe_foreign_file(reader.bytes());
    reader.fail("magic is " + quote(magic) +
                ", expected \"GGUF\": " + (foreign.empty() ? "not a GGUF file" : "the file is " + foreign));
  }
  const auto version = reader.read<std::uint32_t>("version");
  if ((version & 0xffff) == 0 && version != 0) {
    reader.fail("the file is big-endian, expected little-endian", Error::Kind::unsupported);
  }
  // 3 only allows big-endian files beside 2, so that the two read the same; 1 had 32-bit counts.
  if (version != 2 && version != 3) {
    reader.fail("version is " + std::to_string(version) + ", expected 2 or 3", Error::Kind::unsupported);
  }
  Counts counts;
  counts.tensors = reader.read_count("tensor count", min_tensor_bytes);
  counts.metadata = reader.read_count("metadata count", min_metadata_bytes);
  for (const auto& [count, field] : {std::pair{counts.tensors, "tensor"}, std::pair{counts.metadata, "metadata"}}) {
    if (count > max_entries) {
      reader.fail(std::string(field) + " count is " + std::to_string(count) + ", expected at most " +
                      std::to_string(max_entries),
                  Error::Kind::unsupported);
    }
  }
  return counts;
}

/// What a tensor's entry says, before its data is found.
struct TensorEntry {
  Tensor tensor;
  std::optional<std::uint32_t> opaque_type;  ///< of a tensor that is not read; `bytes` is then 1, the least there is
  std::uint64_t offset = 0;                  ///< from the start of the data section
  std::uint64_t bytes = 0;
  std::uint64_t end() const { return offset + bytes; }
};

/// a * b, both non-zero, refusing what does not fit a signed 64-bit integer.
std::uint64_t multiply(const HeaderReader& reader, std::uint64_t a, std::uint64_t b, const char* what) {
  if (a > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / b) {
    reader.fail(std::string("dimensions overflow: the number of ") + what + " is " + std::to_string(a) + " * " +
                std::to_string(b) + ", expected less than 2^63");
  }
  return a * b;
}

TensorEntry read_tensor(HeaderReader& reader, std::uint64_t index) {
  reader.set_subject("tensor " + std::to_string(index));
  TensorEntry entry;
  Tensor& tensor = entry.tensor;
  tensor.name = reader.read_name("tensor name", max_tensor_name_bytes);
  reader.set_subject("tensor " + quote(tensor.name));
  const auto rank = reader.read<std::uint32_t>("number of dimensions");
  if (rank < 1 || rank > tensor.shape.size()) {
    reader.fail("number of dimensions is " + std::to_string(rank) + ", expected 1 to 4");
  }
  tensor.rank = static_cast<int>(rank);
  std::uint64_t elements = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    const auto dimension = reader.read<std::uint64_t>("dimension");
    if (dimension == 0) reader.fail("dimension " + std::to_string(i) + " is 0, expected at least 1");
    elements = multiply(reader, elements, dimension, "elements");
    tensor.shape[rank - 1 - i] = static_cast<std::int64_t>(dimension);
  }
  const auto type = reader.read<std::uint32_t>("type");
  if (const DTypeTraits* stored = find_dtype(type)) {
    tensor.type = static_cast<DType>(type);
    const auto cols = static_cast<std::uint64_t>(tensor.cols());
    if (cols % stored->elements != 0) {
      reader.fail("rows of " + std::to_string(cols) + " values are not whole blocks of " +
                  std::to_string(stored->elements) + ", as type " + stored->name + " expects");
    }
    entry.bytes = multiply(reader, elements / stored->elements, stored->bytes, "bytes");
  } else {
    entry.opaque_type = type;
    entry.bytes = 1;
  }
  entry.offset = reader.read<std::uint64_t>("offset");
  return entry;
}

/// Points each tensor at its bytes.
void locate_tensors(HeaderReader& reader, std::vector<TensorEntry>& entries, std::span<const std::byte> bytes,
                    std::uint64_t alignment) {
  const std::uint64_t start = (reader.position() + alignment - 1) / alignment * alignment;
  const std::uint64_t available = start > bytes.size() ? 0 : bytes.size() - start;
  for (TensorEntry& entry : entries) {
    reader.set_subject("tensor " + quote(entry.tensor.name));
    if (entry.offset % alignment != 0) {
      reader.fail("offset is " + std::to_string(entry.offset) + ", expected a multiple of " +
                  std::to_string(alignment) + " (general.alignment)");
    }
    if (entry.offset > available || entry.bytes > available - entry.offset) {
      reader.fail("truncated: its " + std::to_string(entry.bytes) + " bytes at offset " + std::to_string(entry.offset) +
                  " end after the file, which has " + std::to_string(available) + " bytes of tensor data");
    }
    entry.tensor.data = bytes.data() + start + entry.offset;
  }
}

void check_overlaps(HeaderReader& reader, const std::vector<TensorEntry>& entries) {
  std::vector<const TensorEntry*> by_offset;
  by_offset.reserve(entries.size());
  for (const TensorEntry& entry : entries) by_offset.push_back(&entry);
  std::ranges::sort(by_offset, {}, &TensorEntry::offset);
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const TensorEntry& before = *by_offset[i - 1];
    const TensorEntry& entry = *by_offset[i];
    if (before.end() > entry.offset) {
      reader.set_subject("tensor " + quote(entry.tensor.name));
      reader.fail("offset is " + std::to_string(entry.offset) + ", which overlaps tensor " + quote(before.tensor.name) +
                  " that ends at " + std::to_string(before.end()));
    }
  }
}

}  // namespace

GgufContents read_gguf(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  HeaderReader reader(path, bytes);
  const Counts counts = read_header(reader);
  GgufContents contents;

  GgufMetadata::Map values;
  for (std::uint64_t i = 0; i < counts.metadata; ++i) {
    reader.set_subject("metadata pair " + std::to_string(i));
    const std::size_t begin = reader.position();
    std::string key = reader.read_name("key", max_key_bytes);
    reader.set_subject("metadata " + quote(key));
    if (values.contains(key)) reader.fail("duplicate key");
    GgufValue value = reader.read_value();
    if (key.starts_with("split.")) contents.split_keys.push_back(bytes.subspan(begin, reader.position() - begin));
    values.emplace(std::move(key), std::move(value));
  }
  contents.metadata = GgufMetadata(path, std::move(values));
  contents.metadata_end = reader.position();
  reader.set_subject("metadata");
  contents.alignment = contents.metadata.find_u32("general.alignment", default_alignment);
  if (contents.alignment < 8 || !std::has_single_bit(contents.alignment)) {
    reader.fail("general.alignment is " + std::to_string(contents.alignment) + ", expected a power of two from 8");
  }

  std::vector<TensorEntry> entries;
  entries.reserve(static_cast<std::size_t>(counts.tensors));
  std::set<std::string, std::less<>> names;
  for (std::uint64_t i = 0; i < counts.tensors; ++i) {
    entries.push_back(read_tensor(reader, i));
    if (!names.insert(entries.back().tensor.name).second) reader.fail("duplicate name");
  }
  locate_tensors(reader, entries, bytes, contents.alignment);
  check_overlaps(reader, entries);
  contents.data_begin = bytes.size();
  contents.tensors.reserve(entries.size());
  for (TensorEntry& entry : entries) {
    contents.data_begin = std::min(contents.data_begin, static_cast<std::size_t>(entry.tensor.data - bytes.data()));
    if (entry.opaque_type) {
      contents.opaque_tensors.push_back({std::move(entry.tensor.name), *entry.opaque_type});
    } else {
      contents.tensors.push_back(std::move(entry.tensor));
    }
  }
  return contents;
}

std::string tensor_type_name(std::uint32_t id) {
  const DTypeTraits* known = find_dtype(id);
  return known != nullptr ? known->name : unread_type_name(id);
}

}  // namespace gemlet
