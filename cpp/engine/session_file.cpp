#include <algorithm>
#include <cstring>
#include <string>

#include "engine/session.hpp"
#include "format/atomic_file.hpp"
#include "format/mapped_file.hpp"

// A saved session, little-endian:
//   header | tokens int32[tokens] | logits float[vocabulary, or 0] | keys and values | FNV-1a of all before, uint64
// Keys and values: for each layer that owns them, for each position that the next token can see, for each KV head, the
// key and the value as the cache stores them.
namespace gemlet {
namespace {

struct Header {
  char magic[8];
  std::uint64_t fingerprint;
  std::uint64_t tokens;
  std::uint64_t computed;  // tokens that the cache holds
  std::uint32_t has_logits;
  std::uint32_t cache_type;
};

constexpr char magic[8] = {'G', 'E', 'M', 'L', 'E', 'T', 'S', '1'};

std::uint64_t hash(std::span<const std::byte> bytes, std::uint64_t state) {
  for (const std::byte b : bytes) state = (state ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3ULL;
  return state;
}

constexpr std::uint64_t hash_start = 0xcbf29ce484222325ULL;

// Visits the key and value rows that a file holds, in its order.
template <typename Visit>
void each_row(const KvCache& cache, const Visit& visit) {
  for (std::size_t layer = 0; layer < cache.layer_count(); ++layer) {
    if (!cache.owns(layer)) continue;
    for (std::size_t position = cache.first_kept(layer); position < cache.length(); ++position) {
      for (std::size_t head = 0; head < cache.kv_heads(); ++head) {
        const KvCache::Slot slot = cache.slot(layer, position, head);
        visit(std::span(slot.key, cache.row_bytes()));
        visit(std::span(slot.value, cache.row_bytes()));
      }
    }
  }
}

std::string hex(std::uint64_t value) {
  std::string text(16, '0');
  for (std::size_t i = 0; i < 16; ++i) text[15 - i] = "0123456789abcdef"[(value >> (4 * i)) & 15];
  return text;
}

}  // namespace

void Session::save(const std::filesystem::path& path) const {
  const Impl& s = *impl_;
  AtomicFile file(path);
  std::uint64_t sum = hash_start;
  const auto write = [&](std::span<const std::byte> bytes) {
    sum = hash(bytes, sum);
    file.write(bytes);
  };
  Header header{};
  std::copy(std::begin(magic), std::end(magic), header.magic);
  header.fingerprint = s.engine->info().fingerprint;
  header.tokens = s.tokens.size();
  header.computed = s.cache.length();
  header.has_logits = s.logits.empty() ? 0 : 1;
  header.cache_type = static_cast<std::uint32_t>(s.cache.type());
  write(std::as_bytes(std::span(&header, 1)));
  write(std::as_bytes(std::span(s.tokens)));
  write(std::as_bytes(std::span(s.logits)));
  each_row(s.cache, write);
  file.write(std::as_bytes(std::span(&sum, 1)));
  file.commit();
}

Session Session::restore(std::shared_ptr<const Engine> engine, const std::filesystem::path& path, int context) {
  const MappedFile file(path);
  const auto fail = [&](Error::Kind kind, const std::string& what) -> void {
    throw Error(kind, path.string() + ": " + what);
  };
  std::span<const std::byte> left = file.bytes();
  const auto take = [&](void* out, std::size_t bytes) {
    if (bytes > left.size()) fail(Error::Kind::format, "the saved session is truncated");
    if (bytes == 0) return;  // `out` may be null then, which memcpy must not be given
    std::memcpy(out, left.data(), bytes);
    left = left.subspan(bytes);
  };

  Header header;
  take(&header, sizeof(header));
  if (!std::equal(std::begin(magic), std::end(magic), header.magic)) {
    fail(Error::Kind::format, "not a saved session");
  }
  Session session(std::move(engine), context);
  Impl& s = *session.impl_;
  if (header.fingerprint != s.engine->info().fingerprint) {
    fail(Error::Kind::unsupported,
         "saved with model " + hex(header.fingerprint) + ", this one is " + hex(s.engine->info().fingerprint));
  }
  if (header.cache_type != static_cast<std::uint32_t>(s.cache.type())) {
    fail(Error::Kind::unsupported, "saved with another cache type than the engine's");
  }
  std::uint64_t sum = 0;
  if (left.size() < sizeof(sum)) fail(Error::Kind::format, "the saved session is truncated");
  std::memcpy(&sum, left.data() + left.size() - sizeof(sum), sizeof(sum));
  if (hash(file.bytes().first(file.bytes().size() - sizeof(sum)), hash_start) != sum) {
    fail(Error::Kind::format, "the saved session is damaged: its checksum does not match");
  }
  if (header.tokens > s.cache.context()) {
    fail(Error::Kind::context, "the saved session has " + std::to_string(header.tokens) +
                                   " tokens, the context holds " + std::to_string(s.cache.context()));
  }
  if (header.computed > header.tokens || header.has_logits > 1) fail(Error::Kind::format, "the header is damaged");

  std::vector<Token> tokens(header.tokens);
  take(tokens.data(), tokens.size() * sizeof(Token));
  s.check_ids(tokens);
  s.logits.resize(header.has_logits * s.vocabulary());
  take(s.logits.data(), s.logits.size() * sizeof(float));
  s.tokens = std::move(tokens);
  s.cache.assume_length(header.computed);
  each_row(s.cache, [&](std::span<std::byte> row) { take(row.data(), row.size()); });
  if (left.size() != sizeof(sum)) fail(Error::Kind::format, "bytes are left over behind the saved session");
  return session;
}

}  // namespace gemlet
