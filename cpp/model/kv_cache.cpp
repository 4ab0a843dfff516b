#include "model/kv_cache.hpp"

#include <cstring>
#include <new>
#include <string>

namespace gemlet {
namespace {

std::size_t element_bytes(CacheType type) { return type == CacheType::f32 ? 4 : type == CacheType::f16 ? 2 : 1; }

}  // namespace

KvCache::KvCache(const ModelShape& shape, CacheType type, std::size_t context, std::size_t chunk)
    : Cache(context), type_(type), layers_(shape.file_layers) {
  for (const LayerShape& owner : shape.layers) {
    if (!owner.owns_kv()) continue;
    Layer& layer = layers_[owner.file_index];
    layer.window = owner.window;
    layer.kv_heads = owner.kv_heads;
    layer.head_dim = owner.head_dim;
    layer.row_bytes = owner.head_dim * element_bytes(type);
    layer.half_head_bytes = page_positions * (layer.row_bytes + (type == CacheType::int8 ? sizeof(float) : 0));
    const std::size_t pages = pages_of(context);
    // So many consecutive positions touch at most this many pages: no two of them that are in use fall together.
    const std::size_t ring = (layer.window + chunk + page_positions - 2) / page_positions + 1;
    layer.pages.resize(layer.window == 0 ? pages : std::min(pages, ring));
  }
}

std::unique_ptr<Cache> KvCache::fork() {
  for (Layer& layer : layers_) {
    for (Page& page : layer.pages) page.shared = true;
  }
  return std::unique_ptr<Cache>(new KvCache(*this));
}

std::size_t KvCache::first_seen(const Layer& layer, std::size_t length) {
  // The next query, at position `length`, sees the window - 1 positions before it.
  return layer.window == 0 || length < layer.window ? 0 : length - (layer.window - 1);
}

void KvCache::make_writable(Page& page, std::size_t bytes) {
  if (page.data != nullptr && !page.shared) return;
  constexpr std::align_val_t cache_line{64};
  auto* memory = static_cast<std::byte*>(operator new(bytes, cache_line, std::nothrow));
  if (memory == nullptr) {
    throw Error(Error::Kind::memory, "cannot allocate " + std::to_string(bytes) + " bytes of keys and values");
  }
  std::shared_ptr<std::byte> data(memory, [](std::byte* p) { operator delete(p, cache_line); });
  if (page.data != nullptr) {
    std::memcpy(memory, page.data.get(), bytes);
  } else {
    std::memset(memory, 0, bytes);  // a saved page has no stray bytes of this process in it
  }
  page = {std::move(data), false};
}

void KvCache::prepare(std::size_t count) {
  for (Layer& layer : layers_) {
    if (layer.pages.empty()) continue;
    for (std::size_t p = length() / page_positions; p * page_positions < length() + count; ++p) {
      make_writable(layer.pages[p % layer.pages.size()], layer.page_bytes());
    }
  }
  stored_ = std::max(stored_, length() + count);
}

bool KvCache::rewind(std::size_t length) {
  if (length == 0) {
    set_length(0);
    stored_ = 0;
    for (Layer& layer : layers_) {
      layer.oldest = 0;
      for (Page& page : layer.pages) {
        if (page.shared) page = {};
      }
    }
    set_source(nullptr);
    return true;
  }
  if (!can_rewind(length)) return false;
  set_length(length);
  return true;
}

bool KvCache::can_rewind(std::size_t length) const {
  return length == 0 || std::all_of(layers_.begin(), layers_.end(), [&](const Layer& layer) {
           return layer.window == 0 || first_seen(layer, length) >= oldest(layer);
         });
}

std::size_t KvCache::oldest(const Layer& layer) const {
  return std::max(layer.oldest, stored_ < layer.slots() ? 0 : stored_ - layer.slots());
}

std::size_t KvCache::bytes() const {
  std::size_t bytes = 0;
  for (const Layer& layer : layers_) {
    const auto held =
        std::count_if(layer.pages.begin(), layer.pages.end(), [](const Page& p) { return p.data != nullptr; });
    bytes += static_cast<std::size_t>(held) * layer.page_bytes();
  }
  return bytes;
}

KvCache::Place KvCache::place(std::size_t layer, std::size_t half_head, std::size_t position) const {
  const Layer& l = layers_[layer];
  const std::size_t row = position % page_positions;
  std::byte* begin = l.page(position / page_positions).data.get() + half_head * l.half_head_bytes;
  auto* scales = reinterpret_cast<float*>(begin + page_positions * l.row_bytes);
  return {begin + row * l.row_bytes, type_ == CacheType::int8 ? scales + row : nullptr};
}

KvCache::Rows KvCache::rows(std::size_t layer, std::size_t kv_head, std::size_t position) const {
  const Place keys = place(layer, 2 * kv_head, position);
  const Place values = place(layer, 2 * kv_head + 1, position);
  return {{keys.row, keys.scale}, {values.row, values.scale}};
}

void KvCache::store(const kernels::Kernels& table, std::size_t layer, std::size_t position, std::size_t kv_head,
                    const float* key, const float* value) {
  const auto put = [&](const float* x, const Place& to) { kernels(table).store(x, head_dim(layer), to.row, to.scale); };
  put(key, place(layer, 2 * kv_head, position));
  put(value, place(layer, 2 * kv_head + 1, position));
}

const kernels::CacheKernels& KvCache::kernels(const kernels::Kernels& table) const {
  switch (type_) {
    case CacheType::f32:
      return table.cache_f32;
    case CacheType::int8:
      return table.cache_int8;
    case CacheType::f16:
      break;
  }
  return table.cache_f16;
}

KvCache::SavedLayer KvCache::saved(const Layer& layer) const {
  const std::size_t first = oldest(layer);
  const std::size_t pages = pages_of(length()) - first / page_positions;
  return {first, std::min(pages, layer.pages.size())};
}

std::vector<KvCache::SavedLayer> KvCache::saved_layers() const {
  std::vector<SavedLayer> all;
  for (const Layer& layer : layers_) {
    if (!layer.pages.empty()) all.push_back(saved(layer));
  }
  return all;
}

std::optional<std::size_t> KvCache::saved_bytes(std::size_t length, std::span<const SavedLayer> saved) const {
  std::size_t bytes = 0;
  auto next = saved.begin();
  for (const Layer& layer : layers_) {
    if (layer.pages.empty()) continue;
    if (next == saved.end()) return std::nullopt;
    const std::size_t pages = pages_of(length);
    const std::size_t needed = first_seen(layer, length);
    if (next->oldest > needed || next->pages > pages || pages - next->pages > needed / page_positions) {
      return std::nullopt;
    }
    bytes += next->pages * layer.page_bytes();
    ++next;
  }
  return next == saved.end() ? std::optional(bytes) : std::nullopt;
}

void KvCache::adopt(std::size_t length, std::span<const SavedLayer> saved, std::shared_ptr<const MappedFile> file,
                    const std::byte* pages) {
  set_length(length);
  stored_ = length;
  const std::size_t end = pages_of(length);
  const std::byte* next = pages;
  auto from = saved.begin();
  for (Layer& layer : layers_) {
    if (layer.pages.empty()) continue;
    const std::size_t first = end - from->pages;
    for (std::size_t p = first; p < end; ++p, next += layer.page_bytes()) {
      // A shared page is only read.
      const auto data = std::const_pointer_cast<std::byte>(std::shared_ptr<const std::byte>(file, next));
      layer.pages[p % layer.pages.size()] = {data, true};
    }
    // The oldest positions may lie on the last page, where another ring has no place for them.
    const std::size_t whole = std::max(first, end - std::min(end, layer.pages.size())) * page_positions;
    layer.oldest = from->pages == layer.pages.size() ? from->oldest : std::max<std::size_t>(from->oldest, whole);
    ++from;
  }
  set_source(std::move(file));
}

}  // namespace gemlet
