#include "model/kv_cache.hpp"

#include <cstring>

namespace gemlet {

KvCache::KvCache(const Gemma3nConfig& config, CacheType type, std::size_t context, std::size_t chunk)
    : type_(type),
      context_(context),
      kv_heads_(config.num_key_value_heads),
      row_bytes_(config.head_dim * (type == CacheType::f16 ? 2 : 4)),
      layers_(config.file_layers) {
  for (const LayerConfig& owner : config.layers) {
    if (!owner.owns_kv) continue;
    Layer& layer = layers_[owner.index];
    layer.window = owner.sliding ? config.sliding_window : 0;
    layer.slots = layer.window == 0 ? context : std::min(context, layer.window + chunk);
    layer.keys = Buffer(kv_heads_ * layer.slots * row_bytes_);
    layer.values = Buffer(kv_heads_ * layer.slots * row_bytes_);
  }
}

std::size_t KvCache::first_kept(std::size_t layer) const {
  const std::size_t window = layers_[layer].window;
  // The next query, at position length(), sees the window - 1 positions before it.
  return window == 0 || length_ < window ? 0 : length_ - (window - 1);
}

bool KvCache::rewind(std::size_t length) {
  if (length == 0) {
    length_ = stored_ = 0;
    return true;
  }
  for (const Layer& layer : layers_) {
    if (layer.window == 0 || stored_ <= layer.slots) continue;
    const std::size_t oldest = stored_ - layer.slots;
    const std::size_t needed = length < layer.window ? 0 : length - (layer.window - 1);
    if (needed < oldest) return false;
  }
  length_ = length;
  return true;
}

KvCache::Slot KvCache::slot(std::size_t layer, std::size_t position, std::size_t kv_head) const {
  const Layer& l = layers_[layer];
  const std::size_t offset = (kv_head * l.slots + position % l.slots) * row_bytes_;
  return {l.keys.as<std::byte>() + offset, l.values.as<std::byte>() + offset};
}

KvCache::Runs KvCache::runs(std::size_t layer, std::size_t kv_head, std::size_t first, std::size_t last) const {
  const std::size_t slots = layers_[layer].slots;
  const std::size_t before_wrap = std::min(last - first, slots - first % slots);
  const Slot begin = slot(layer, first, kv_head);
  const Slot wrapped = slot(layer, first + before_wrap, kv_head);
  const std::size_t after_wrap = last - first - before_wrap;
  return {{{{begin.key, before_wrap}, {wrapped.key, after_wrap}}},
          {{{begin.value, before_wrap}, {wrapped.value, after_wrap}}}};
}

void KvCache::copy_from(const KvCache& other) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (!owns(i)) continue;
    for (std::size_t position = other.first_kept(i); position < other.length_; ++position) {
      for (std::size_t head = 0; head < kv_heads_; ++head) {
        const Slot from = other.slot(i, position, head);
        const Slot to = slot(i, position, head);
        std::memcpy(to.key, from.key, row_bytes_);
        std::memcpy(to.value, from.value, row_bytes_);
      }
    }
  }
  assume_length(other.length_);
}

}  // namespace gemlet
