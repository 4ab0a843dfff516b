#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "gemlet/gemlet.hpp"
#include "kernels/kernels.hpp"
#include "model/config.hpp"

namespace gemlet {

/// Keys and values of one sequence, for the layers that own them, by their index in the file. They lie in pages of
/// `page_positions` consecutive positions, aligned to multiples of it: [kv_head][keys, key scales, values, value
/// scales][position]. A full-attention layer has a page for every position so far; a sliding layer has a ring of pages
/// for window + chunk positions, so that a chunk of prompt can be stored whole before its first token looks back over a
/// whole window.
///
/// Forks share pages; a cache copies a shared page before it writes to it.
class KvCache {
 public:
  static constexpr std::size_t page_positions = 64;

  /// `chunk` is the most positions that are stored between two calls of `advance`.
  KvCache(const Gemma3nConfig& config, CacheType type, std::size_t context, std::size_t chunk);
  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&&) = default;

  /// A cache that holds the same. Nothing is copied until one of the two writes.
  KvCache fork();

  std::size_t context() const { return context_; }
  CacheType type() const { return type_; }
  std::size_t length() const { return length_; }  ///< positions held

  /// Announces that positions [length(), length() + count) are about to be stored, and holds them afterwards. Storing
  /// that was prepared but never advanced over (a cancelled call) leaves the held positions intact. Throws
  /// Error(memory).
  void prepare(std::size_t count);
  void advance(std::size_t count) { length_ += count; }

  /// Forgets positions from `length` on. False, and nothing changed, where a ring has already overwritten keys that
  /// position `length` would attend to.
  bool rewind(std::size_t length);

  /// Stores float[head_dim] at a prepared position.
  void store(const kernels::Kernels& table, std::size_t layer, std::size_t position, std::size_t kv_head,
             const float* key, const float* value) const;

  /// From `position` to the end of its page.
  struct Rows {
    kernels::CacheRows keys;
    kernels::CacheRows values;
  };
  Rows rows(std::size_t layer, std::size_t kv_head, std::size_t position) const;
  std::size_t row_bytes() const { return row_bytes_; }  ///< of one key or value of one head, without its scale
  const kernels::CacheKernels& kernels(const kernels::Kernels& table) const;

  /// Visits the pages that a copy needs to go on from length(), in an order of their own.
  template <typename Visit>
  void each_page(const Visit& visit) const {
    for (const Layer& layer : layers_) {
      if (layer.pages.empty()) continue;
      for (std::size_t p = first_kept(layer) / page_positions; p * page_positions < length_; ++p) {
        visit(std::span<const std::byte>(layer.page(p).data.get(), page_bytes_));
      }
    }
  }
  std::size_t page_bytes() const { return page_bytes_; }
  /// The pages that a cache of `length` positions gives to each_page().
  std::size_t page_count(std::size_t length) const;
  /// Makes an empty cache hold `length` positions, from page_count(length) pages that lie one after the other at
  /// `pages`. They stay there and are not written to.
  void adopt(std::size_t length, std::shared_ptr<const std::byte> pages);

 private:
  struct Page {
    std::shared_ptr<std::byte> data;
    bool shared = false;  // with another cache or with a file: to be copied before it is written to
  };
  struct Layer {
    std::size_t window = 0;   // 0: full attention
    std::vector<Page> pages;  // empty: reads another layer's
    std::size_t oldest = 0;   // the first position that was ever there

    const Page& page(std::size_t index) const { return pages[index % pages.size()]; }
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
  std::size_t first_kept(const Layer& layer) const { return first_seen(layer, length_); }
  void make_writable(Page& page) const;

  CacheType type_;
  std::size_t context_;
  std::size_t row_bytes_;
  std::size_t half_head_bytes_;  // keys, or values, of one head on a page, scales included
  std::size_t page_bytes_;
  std::size_t length_ = 0;
  std::size_t stored_ = 0;  // one past the last position ever stored: what a rewind must reckon with
  std::vector<Layer> layers_;
};

}  // namespace gemlet
