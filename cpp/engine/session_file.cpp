#include <algorithm>
#include <cstring>
#include <string>

#include "engine/session.hpp"
#include "format/atomic_file.hpp"
#include "format/checksum.hpp"
#include "format/mapped_file.hpp"

// A saved session, little-endian; each part is filled up with zeros to a multiple of 64 bytes:
//   header | tokens int32[tokens] | media | layers | logits float[vocabulary, or 0] | pages of keys and values |
//   checksum of all before
// Media are saved as content hashes, without their embeddings.
// The pages are KvCache's own. Those of a sliding layer are all of its ring that a rewind can still reach, not only
// those of its window, so that a restored session reuses of a prompt what the saved one would have: about the engine's
// chunk of positions more for each sliding layer. A restored session reads the pages where they are, in the mapped
// file, until it writes to them.
namespace gemlet {
namespace {

constexpr std::size_t alignment = Checksum::block;

struct Header {
  char magic[7];
  char layout;
  std::uint64_t fingerprint;
  ContentHash adapter;  // zeros: none
  std::uint64_t tokens;
  std::uint64_t media;
  std::uint64_t layers;    // that own keys and values
  std::uint64_t computed;  // tokens that the cache holds
  std::uint16_t has_logits;
  SavedScope scope;
  std::uint32_t cache_type;
};

struct SavedMedia {
  std::uint64_t begin;
  std::uint64_t count;
  ContentHash content;
};

constexpr char magic[7] = {'G', 'E', 'M', 'L', 'E', 'T', 'S'};
constexpr char layout = '5';  // to be counted up with every change of what is above

std::size_t padded(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

std::string hex(std::uint64_t value) {
  std::string text(16, '0');
  for (std::size_t i = 0; i < 16; ++i) text[15 - i] = "0123456789abcdef"[(value >> (4 * i)) & 15];
  return text;
}

ContentHash hash_of(const std::shared_ptr<const Adapter>& adapter) {
  return adapter == nullptr ? ContentHash{} : adapter->content();
}

KvCache& pages_of(Cache& cache, const std::filesystem::path& path) {
  auto* kv = dynamic_cast<KvCache*>(&cache);
  if (kv == nullptr) {
    throw Error(Error::Kind::unsupported,
                path.string() + ": sessions of exported models are neither saved nor restored; use the GGUF file");
  }
  return *kv;
}

/// Fills `out`, which may be empty: memcpy may not be given null then.
template <typename T>
void copy_bytes(const std::byte* from, std::span<T> out) {
  const std::span<std::byte> to = std::as_writable_bytes(out);
  std::copy_n(from, to.size(), to.data());
}

Prompt read_timeline(const std::byte* tokens, std::size_t token_count, const std::byte* media,
                     std::size_t media_count) {
  Prompt prompt;
  prompt.tokens.resize(token_count);
  copy_bytes(tokens, std::span(prompt.tokens));
  std::size_t end = 0;
  for (std::size_t i = 0; i < media_count; ++i) {
    SavedMedia saved;
    std::memcpy(&saved, media + i * sizeof(saved), sizeof(saved));
    if (saved.begin < end || saved.count == 0 || saved.count > token_count || saved.begin > token_count - saved.count) {
      throw Error(Error::Kind::format, "its media do not lie within its tokens");
    }
    prompt.media.push_back({saved.begin, saved.count, saved.content, nullptr});
    end = saved.begin + saved.count;
  }
  return prompt;
}

}  // namespace

void Session::save(const std::filesystem::path& path) const {
  const Impl& s = *impl_;
  const KvCache& cache = pages_of(*s.cache, path);
  s.check_unchanged();
  AtomicFile file(path, Engine::Impl::of(*s.engine).files());
  Checksum sum;
  const auto write = [&](std::span<const std::byte> bytes) {
    const std::size_t whole = bytes.size() / alignment * alignment;
    std::byte last[alignment] = {};
    std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(whole), bytes.end(), last);
    for (const auto part : {bytes.first(whole), std::span<const std::byte>(last).first(padded(bytes.size()) - whole)}) {
      sum.add(part);
      file.write(part);
    }
  };
  Header header{};
  std::copy(std::begin(magic), std::end(magic), header.magic);
  header.layout = layout;
  header.fingerprint = s.engine->info().fingerprint;
  header.adapter = hash_of(s.timeline.adapter());
  header.tokens = s.timeline.size();
  header.media = s.timeline.media().size();
  const std::vector<KvCache::SavedLayer> layers = cache.saved_layers();
  header.layers = layers.size();
  header.computed = cache.length();
  header.has_logits = s.logits.empty() ? 0 : 1;
  header.scope = s.timeline.saved_scope();
  header.cache_type = static_cast<std::uint32_t>(cache.type());
  write(std::as_bytes(std::span(&header, 1)));
  write(std::as_bytes(s.timeline.tokens()));
  std::vector<SavedMedia> media;
  for (const Media& each : s.timeline.media()) media.push_back({each.begin, each.count, each.content});
  write(std::as_bytes(std::span(media)));
  write(std::as_bytes(std::span(layers)));
  write(std::as_bytes(std::span(s.logits)));
  cache.each_page(write);
  const std::uint64_t value = sum.value();
  file.write(std::as_bytes(std::span(&value, 1)));
  s.check_unchanged();  // what was read of a file that is mapped
  file.commit();
}

Session Session::restore(std::shared_ptr<const Engine> engine, const std::filesystem::path& path, int context,
                         std::shared_ptr<const Adapter> adapter) {
  Session session(std::move(engine), context);
  Impl& s = *session.impl_;
  KvCache& cache = pages_of(*s.cache, path);
  const auto file = std::make_shared<const MappedFile>(path);
  const std::span<const std::byte> bytes = file->bytes();
  const auto fail = [&](Error::Kind kind, const std::string& what) -> void {
    file->check_intact();  // what could not be read is not malformed
    throw Error(kind, path.string() + ": " + what);
  };

  Header header;
  if (bytes.size() < sizeof(header)) fail(Error::Kind::format, "not a saved session");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (!std::equal(std::begin(magic), std::end(magic), header.magic) || header.layout < '1' || header.layout > '9') {
    fail(Error::Kind::format, "not a saved session");
  }
  if (header.layout != layout) {
    fail(Error::Kind::unsupported, std::string("saved by another version of gemlet: layout ") + header.layout +
                                       ", this one reads layout " + layout);
  }
  session.set_adapter(std::move(adapter));
  if (header.adapter != hash_of(s.timeline.adapter())) {
    fail(Error::Kind::unsupported, "saved with adapter " + hex(header.adapter[0]) + ", restored with " +
                                       hex(hash_of(s.timeline.adapter())[0]) + " (zeros: none)");
  }
  if (header.fingerprint != s.engine->info().fingerprint) {
    fail(Error::Kind::unsupported,
         "saved with model " + hex(header.fingerprint) + ", this one is " + hex(s.engine->info().fingerprint));
  }
  if (header.cache_type != static_cast<std::uint32_t>(cache.type())) {
    fail(Error::Kind::unsupported, "saved with another cache type than the engine's");
  }
  if (header.tokens > cache.context()) {
    fail(Error::Kind::context, "the saved session has " + std::to_string(header.tokens) +
                                   " tokens, the context holds " + std::to_string(cache.context()));
  }
  if (header.computed > header.tokens || header.media > header.tokens || header.has_logits > 1 ||
      header.layers != cache.saved_layers().size() || header.scope > SavedScope::named) {
    fail(Error::Kind::format, "the header is damaged");
  }

  // No overflow: the context, which bounds the tokens, fits in memory as pages do.
  const std::size_t tokens_begin = padded(sizeof(header));
  const std::size_t media_begin = tokens_begin + padded(header.tokens * sizeof(Token));
  const std::size_t layers_begin = media_begin + padded(header.media * sizeof(SavedMedia));
  const std::size_t logits_begin = layers_begin + padded(header.layers * sizeof(KvCache::SavedLayer));
  const std::size_t pages_begin = logits_begin + padded(header.has_logits * s.vocabulary() * sizeof(float));
  if (bytes.size() < pages_begin) {
    fail(Error::Kind::format, "the saved session has " + std::to_string(bytes.size()) + " bytes, expected " +
                                  std::to_string(pages_begin) + " and more");
  }
  std::vector<KvCache::SavedLayer> layers(header.layers);
  copy_bytes(bytes.data() + layers_begin, std::span(layers));
  const auto page_bytes = cache.saved_bytes(header.computed, layers);
  if (!page_bytes) fail(Error::Kind::format, "its layers do not hold what the next token sees");
  const std::size_t end = pages_begin + *page_bytes;
  Checksum sum;
  if (bytes.size() != end + sizeof(sum.value())) {
    fail(Error::Kind::format, "the saved session has " + std::to_string(bytes.size()) + " bytes, expected " +
                                  std::to_string(end + sizeof(sum.value())));
  }
  sum.add(bytes.first(end));
  const std::uint64_t value = sum.value();
  if (std::memcmp(&value, bytes.data() + end, sizeof(value)) != 0) {
    fail(Error::Kind::format, "the saved session is damaged: its checksum does not match");
  }

  Prompt timeline;
  try {
    timeline = read_timeline(bytes.data() + tokens_begin, header.tokens, bytes.data() + media_begin, header.media);
    s.check_ids(timeline.tokens);
  } catch (const Error& error) {
    fail(Error::Kind::format, error.what());
  }
  s.timeline.append(timeline);
  s.timeline.restore_scope(header.scope);
  s.logits.resize(header.has_logits * s.vocabulary());
  copy_bytes(bytes.data() + logits_begin, std::span(s.logits));
  cache.adopt(header.computed, layers, file, bytes.data() + pages_begin);
  file->check_unchanged();
  return session;
}

}  // namespace gemlet
