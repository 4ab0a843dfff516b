#include "model/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

// Attention in one pass over the keys and values, with the softmax of each query row kept up to date as scores come in.
//
// A tile is a few consecutive tokens of one sequence and the query heads of one KV head: its rows share every load of
// keys and values. The positions are cut at multiples of a page and, further, of a span. What a row gathers from a span
// does not depend on anything outside it, and spans are put together in order; so one thread may go through them all or
// several threads take one each, with the same result to the last bit.
namespace gemlet {
namespace {

constexpr std::size_t page = KvCache::page_positions;
constexpr std::size_t span = 4 * page;
constexpr std::size_t tile_rows = 16;  // query rows of one tile stay in the first cache beside a page of keys

struct Tile {
  std::span<const Query> tokens;
  std::size_t first_token;

  std::size_t first() const { return tokens.front().first; }
  std::size_t last() const { return tokens.back().last; }
  std::size_t first_span() const { return first() / span; }
  std::size_t spans() const { return (last() - 1) / span + 1 - first_span(); }
};

// For each row of a tile: the largest score so far, the sum of e^(score - max) and the sum of values weighted so.
struct Gathered {
  float* values;  // [rows][head_dim]
  float* max;     // [rows]
  float* sum;     // [rows]
};

class Attention {
 public:
  Attention(const kernels::Kernels& table, const AttentionArgs& args, const KvCache& cache)
      : k_(table),
        args_(args),
        kv_heads_(cache.kv_heads(args.layer)),
        group_(args.heads / kv_heads_),
        head_dim_(cache.head_dim(args.layer)) {}

  std::vector<Tile> tiles(std::span<const Query> queries) const {
    const std::size_t most = std::max<std::size_t>(1, tile_rows / group_);
    std::vector<Tile> out;
    for (std::size_t begin = 0, end = 0; begin < queries.size(); begin = end) {
      for (end = begin + 1; end < queries.size() && end - begin < most; ++end) {
        if (queries[end].cache != queries[begin].cache || !follows(queries[end - 1], queries[end])) break;
      }
      out.push_back({queries.subspan(begin, end - begin), begin});
    }
    return out;
  }

  std::size_t kv_heads() const { return kv_heads_; }
  std::size_t max_rows() const { return std::max(tile_rows, group_); }
  std::size_t gathered_floats() const { return max_rows() * (head_dim_ + 2); }
  std::size_t scratch_floats() const { return max_rows() * (head_dim_ + page); }

  Gathered gathered(float* memory) const {
    float* max = memory + max_rows() * head_dim_;
    return {memory, max, max + max_rows()};
  }

  void clear(const Tile& tile, const Gathered& g) const {
    std::fill_n(g.values, rows(tile) * head_dim_, 0.0F);
    std::fill_n(g.max, rows(tile), -std::numeric_limits<float>::infinity());
    std::fill_n(g.sum, rows(tile), 0.0F);
  }

  /// What the rows of a tile gather from positions [index * span, (index + 1) * span), added to `g`.
  void gather(const Tile& tile, std::size_t kv_head, std::size_t index, const float* q, float* scratch,
              const Gathered& g) const {
    float* tile_q = scratch;  // [rows][head_dim]
    float* weights = scratch + max_rows() * head_dim_;
    for (std::size_t t = 0; t < tile.tokens.size(); ++t) {
      const float* from = q + ((tile.first_token + t) * args_.heads + kv_head * group_) * head_dim_;
      std::copy_n(from, group_ * head_dim_, tile_q + t * group_ * head_dim_);
    }
    if (args_.scale != 1) k_.scale(args_.scale, tile_q, rows(tile) * head_dim_);
    const KvCache& cache = *tile.tokens.front().cache;
    const kernels::CacheKernels& kernels = cache.kernels(k_);
    const std::size_t end = std::min(tile.last(), (index + 1) * span);
    for (std::size_t first = std::max(tile.first(), index * span), last; first < end; first = last) {
      last = std::min(end, (first / page + 1) * page);
      const KvCache::Rows rows_here = cache.rows(args_.layer, kv_head, first);
      kernels.scores({.weights = rows_here.keys.data,
                      .activations = tile_q,
                      .out = weights,
                      .row_bytes = cache.row_bytes(args_.layer),
                      .rows = last - first,
                      .cols = head_dim_,
                      .tokens = rows(tile),
                      .out_stride = page});
      for (std::size_t r = 0; r < rows(tile); ++r) {
        const auto [from, to] = seen(tile, r / group_, first, last);
        if (from < to) softmax(rows_here, from, to, weights + r * page, r, g);
      }
      accumulate(tile, first, last, rows_here, cache.row_bytes(args_.layer), kernels, weights, g);
    }
  }

  /// total += part, where part comes from later positions.
  void merge(const Tile& tile, const Gathered& part, const Gathered& total) const {
    for (std::size_t r = 0; r < rows(tile); ++r) {
      if (part.sum[r] == 0) continue;  // the token sees nothing there
      const float max = std::max(total.max[r], part.max[r]);
      const float before = std::exp(total.max[r] - max);
      const float now = std::exp(part.max[r] - max);
      k_.scale(before, total.values + r * head_dim_, head_dim_);
      k_.axpy(now, part.values + r * head_dim_, total.values + r * head_dim_, head_dim_);
      total.sum[r] = total.sum[r] * before + part.sum[r] * now;
      total.max[r] = max;
    }
  }

  void write(const Tile& tile, std::size_t kv_head, const Gathered& total, float* out) const {
    for (std::size_t r = 0; r < rows(tile); ++r) {
      const std::size_t token = tile.first_token + r / group_;
      float* row = out + (token * args_.heads + kv_head * group_ + r % group_) * head_dim_;
      std::copy_n(total.values + r * head_dim_, head_dim_, row);
      k_.scale(1.0F / total.sum[r], row, head_dim_);
    }
  }

 private:
  // The tile's common positions are found from its first and last token, so that both ends of what a token sees must
  // never go back. Within a picture, whose tokens see each other, they stay where they are.
  static bool follows(const Query& before, const Query& after) {
    return after.first >= before.first && (after.last == before.last + 1 || after.last == before.last);
  }

  std::size_t rows(const Tile& tile) const { return tile.tokens.size() * group_; }

  // Which of the positions [first, last) a token of the tile sees, counted from `first`.
  static std::pair<std::size_t, std::size_t> seen(const Tile& tile, std::size_t token, std::size_t first,
                                                  std::size_t last) {
    const Query& query = tile.tokens[token];
    return {std::clamp(query.first, first, last) - first, std::clamp(query.last, first, last) - first};
  }

  // Adds the weighted values of positions [first, last): together those that all tokens of the tile see, before and
  // after them those that only some do, as zero weights would not keep out a value that is no number. Each row adds its
  // positions one by one in order, so that the cuts change no bit.
  void accumulate(const Tile& tile, std::size_t first, std::size_t last, const KvCache::Rows& rows,
                  std::size_t row_bytes, const kernels::CacheKernels& kernels, const float* weights,
                  const Gathered& g) const {
    const auto add = [&](std::size_t token, std::size_t tokens, std::size_t from, std::size_t to) {
      if (from >= to) return;
      kernels.accumulate({.weights = weights + token * group_ * page + from,
                          .stride = page,
                          .queries = tokens * group_,
                          .values = static_cast<const std::byte*>(rows.values.data) + from * row_bytes,
                          .positions = to - from,
                          .head_dim = head_dim_,
                          .acc = g.values + token * group_ * head_dim_});
    };
    const std::size_t tokens = tile.tokens.size();
    const std::size_t common = seen(tile, tokens - 1, first, last).first;
    const std::size_t common_end = std::max(common, seen(tile, 0, first, last).second);
    for (std::size_t t = 0; t < tokens; ++t) {
      const auto [from, to] = seen(tile, t, first, last);
      add(t, 1, from, std::min(to, common));
    }
    add(0, tokens, common, common_end);
    for (std::size_t t = 0; t < tokens; ++t) add(t, 1, common_end, seen(tile, t, first, last).second);
  }

  // Scores of positions [from, to) of `rows` become weights of their values, and row r of `g` is brought to the new
  // maximum.
  void softmax(const KvCache::Rows& rows, std::size_t from, std::size_t to, float* w, std::size_t r,
               const Gathered& g) const {
    if (rows.keys.scales != nullptr) k_.mul(rows.keys.scales + from, w + from, to - from);
    if (args_.soft_cap != 0) k_.soft_cap(w + from, args_.soft_cap, to - from);
    const float factor = k_.softmax_piece(w + from, to - from, g.max + r, g.sum + r);
    if (factor != 1) k_.scale(factor, g.values + r * head_dim_, head_dim_);
    if (rows.values.scales != nullptr) k_.mul(rows.values.scales + from, w + from, to - from);
  }

  const kernels::Kernels& k_;
  const AttentionArgs& args_;
  std::size_t kv_heads_;
  std::size_t group_;  // query heads of one KV head
  std::size_t head_dim_;
};

}  // namespace

void attention(Compute& compute, const AttentionArgs& args, std::span<const Query> queries, const float* q,
               float* out) {
  const Attention attention(compute.kernels(), args, *queries.front().cache);
  const std::size_t kv_heads = attention.kv_heads();
  const std::vector<Tile> tiles = attention.tiles(queries);
  const std::size_t units = tiles.size() * kv_heads;  // a tile and a KV head
  std::size_t spans = 0;
  for (const Tile& tile : tiles) spans = std::max(spans, tile.spans());

  // One token has few units: then threads share a unit's spans, whose results wait for each other in `parts`.
  const auto workers = static_cast<std::size_t>(compute.threads());
  const bool split = workers > 1 && units < 4 * workers;
  const std::size_t scratch_floats = attention.scratch_floats() + 2 * attention.gathered_floats();
  const std::size_t parts_begin = workers * scratch_floats;
  const std::size_t parts_floats = split ? units * spans * attention.gathered_floats() : 0;
  float* memory_of_all = compute.scratch(parts_begin + parts_floats);
  const auto scratch = [&](int thread) { return memory_of_all + static_cast<std::size_t>(thread) * scratch_floats; };
  const auto part = [&](std::size_t unit, std::size_t index) {
    return attention.gathered(memory_of_all + parts_begin + (unit * spans + index) * attention.gathered_floats());
  };
  const auto gather = [&](std::size_t unit, std::size_t index, float* memory, const Gathered& into) {
    const Tile& tile = tiles[unit / kv_heads];
    attention.clear(tile, into);
    attention.gather(tile, unit % kv_heads, tile.first_span() + index, q, memory, into);
  };

  if (split) {
    compute.parallel_for(units * spans, 1, [&](std::size_t begin, std::size_t end, int thread) {
      for (std::size_t i = begin; i < end; ++i) {
        if (i % spans >= tiles[i / spans / kv_heads].spans()) continue;
        gather(i / spans, i % spans, scratch(thread), part(i / spans, i % spans));
      }
    });
  }
  compute.parallel_for(units, 1, [&](std::size_t begin, std::size_t end, int thread) {
    float* memory = scratch(thread);
    const Gathered total = attention.gathered(memory + attention.scratch_floats());
    const Gathered alone = attention.gathered(memory + attention.scratch_floats() + attention.gathered_floats());
    for (std::size_t unit = begin; unit < end; ++unit) {
      const Tile& tile = tiles[unit / kv_heads];
      attention.clear(tile, total);
      for (std::size_t index = 0; index < tile.spans(); ++index) {
        if (!split) gather(unit, index, memory, alone);
        attention.merge(tile, split ? part(unit, index) : alone, total);
      }
      attention.write(tile, unit % kv_heads, total, out);
    }
  });
}

}  // namespace gemlet
