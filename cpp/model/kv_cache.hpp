#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gemlet/gemlet.hpp"
#include "kernels/kernels.hpp"
#include "model/cache.hpp"
#include "model/shape.hpp"

namespace gemlet {

/// Keys and values of one sequence, for the layers that own them, by their number in the file. They lie in pages of
/// `page_positions` consecutive positions, aligned to multiples of it: [kv_head][keys, key scales, values, value
/// scales][position]. A full-attention layer has a page for every position so far; a sliding layer has a ring of pages
/// for window + chunk positions, so that a chunk of prompt can be stored whole before its first token looks back over a
/// whole window.
///
/// Forks share pages; a cache copies a shared page before it writes to it.
class KvCache final : public Cache {
 public:
  static constexpr std::size_t page_positions = 64;

  /// `chunk` is the most positions that are stored between two calls of `advance`.
  KvCache(const ModelShape& shape, CacheType type, std::size_t context, std::size_t chunk);

  CacheType type() const { return type_; }

  void prepare(std::size_t count) override;
  /// False where a ring has already overwritten keys that position `length` would attend to.
  bool rewind(std::size_t length) override;
  bool can_rewind(std::size_t length) const override;
  std::size_t bytes() const override;
  /// Nothing is copied until one of the two caches writes.
  std::unique_ptr<Cache> fork() override;

  std::size_t kv_heads(std::size_t layer) const { return layers_[layer].kv_heads; }
  std::size_t head_dim(std::size_t layer) const { return layers_[layer].head_dim; }

  /// Stores float[head_dim] at a prepared position.
  void store(const kernels::Kernels& table, std::size_t layer, std::size_t position, std::size_t kv_head,
             const float* key, const float* value);

  /// From `position` to the end of its page.
  struct Rows {
    kernels::CacheRows keys;
    kernels::CacheRows values;
  };
  Rows rows(std::size_t layer, std::size_t kv_head, std::size_t position) const;
  /// One key or value of one head, without its scale.
  std::size_t row_bytes(std::size_t layer) const { return layers_[layer].row_bytes; }
  const kernels::CacheKernels& kernels(const kernels::Kernels& table) const;

  /// What a copy of a layer needs to go on from length(), or from wherever the cache can be rewound to: its last pages.
  struct SavedLayer {
    std::uint64_t oldest = 0;  ///< the first position that is there
    std::uint64_t pages = 0;   ///< up to that of the last position. Where rings are full it may hold, behind that
                               ///< position, the oldest ones too.
  };
  /// Of each layer that owns keys and values, in the order of the file.
  std::vector<SavedLayer> saved_layers() const;
  /// Visits the pages of saved_layers(), one layer after the other.
  template <typename Visit>
  void each_page(const Visit& visit) const {
    for (const Layer& layer : layers_) {
      if (layer.pages.empty()) continue;
      const std::size_t end = pages_of(length());
      for (std::size_t p = end - saved(layer).pages; p < end; ++p) {
        visit(std::span<const std::byte>(layer.page(p).data.get(), layer.page_bytes()));
      }
    }
  }
  /// The bytes of the pages that a cache of `length` positions with these layers gives to each_page(), a multiple of
  /// 64; nothing where no cache of this model can have such layers.
  std::optional<std::size_t> saved_bytes(std::size_t length, std::span<const SavedLayer> saved) const;
  /// Makes an empty cache hold `length` positions, from saved_bytes() bytes of pages that lie one after the other at
  /// `pages`, in `file`. They stay there and are not written to. It can be rewound as far as the saved one could; with
  /// rings of another length than those, not further than they have whole pages.
  void adopt(std::size_t length, std::span<const SavedLayer> saved, std::shared_ptr<const MappedFile> file,
             const std::byte* pages);

 private:
  struct Page {
    std::shared_ptr<std::byte> data;
    bool shared = false;  // with another cache or with a file: to be copied before it is written to
  };
  struct Layer {
    std::size_t window = 0;  // 0: full attention
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    std::size_t row_bytes = 0;
    std::size_t half_head_bytes = 0;  // keys, or values, of one head on a page, scales included
    std::vector<Page> pages;          // empty: reads another layer's
    std::size_t oldest = 0;           // the first position that was there when the cache was empty or restored

    const Page& page(std::size_t index) const { return pages[index % pages.size()]; }
    std::size_t page_bytes() const { return 2 * kv_heads * half_head_bytes; }
    std::size_t slots() const { return pages.size() * page_positions; }
  };

  struct Place {
    std::byte* row;
    float* scale;  // null but for int8
  };

  KvCache(const KvCache&) = default;
  Place place(std::size_t layer, std::size_t half_head, std::size_t position) const;
  /// The first position that the token at length() sees.
  static std::size_t first_seen(const Layer& layer, std::size_t length);
  /// The first position that is still there.
  std::size_t oldest(const Layer& layer) const;
  static std::size_t pages_of(std::size_t length) { return (length + page_positions - 1) / page_positions; }
  SavedLayer saved(const Layer& layer) const;
  static void make_writable(Page& page, std::size_t bytes);

  CacheType type_;
  std::size_t stored_ = 0;  // one past the last position ever stored: what a rewind must reckon with
  std::vector<Layer> layers_;
};

}  // namespace gemlet
