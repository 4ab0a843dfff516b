#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "check.hpp"
#include "kernels/kernel_inputs.hpp"
#include "model/attention.hpp"

// attention() against its formula, and against itself in other groupings; and the cache's pages.
namespace {

using namespace gemlet;
using namespace kernel_inputs;

constexpr std::size_t page = KvCache::page_positions;

struct Shape {
  std::size_t heads = 6;
  std::size_t kv_heads = 2;
  std::size_t head_dim = 20;
  std::size_t window = 0;  // 0: full attention
  float scale = 1;
  float soft_cap = 0;
};

ModelShape config(const Shape& shape) {
  ModelShape model;
  model.num_attention_heads = shape.heads;
  model.file_layers = 1;
  model.layers.push_back({.kv_heads = shape.kv_heads, .head_dim = shape.head_dim, .window = shape.window});
  return model;
}

/// The numbers of one sequence, each from its position alone: k, v [kv_heads][head_dim], q [heads][head_dim].
std::vector<float> numbers(const Shape& shape, std::uint32_t kind, std::size_t position) {
  Random random(static_cast<std::uint32_t>(3 * position + kind + 1));
  return normals(random, (kind == 0 ? shape.heads : shape.kv_heads) * shape.head_dim);
}

void store(KvCache& cache, const Shape& shape, const kernels::Kernels& k, std::size_t count) {
  cache.prepare(count);
  for (std::size_t p = cache.length(); p < cache.length() + count; ++p) {
    const auto key = numbers(shape, 1, p);
    const auto value = numbers(shape, 2, p);
    for (std::size_t h = 0; h < shape.kv_heads; ++h) {
      cache.store(k, 0, p, h, key.data() + h * shape.head_dim, value.data() + h * shape.head_dim);
    }
  }
  cache.advance(count);
}

std::size_t first_seen(const Shape& shape, std::size_t position) {
  return shape.window == 0 || position < shape.window ? 0 : position - (shape.window - 1);
}

/// Of the token at `position`, float[heads][head_dim].
std::vector<float> formula(const Shape& shape, std::size_t position) {
  const auto q = numbers(shape, 0, position);
  std::vector<float> out(q.size());
  for (std::size_t h = 0; h < shape.heads; ++h) {
    const std::size_t kv = h / (shape.heads / shape.kv_heads) * shape.head_dim;
    std::vector<double> sums(shape.head_dim);
    double total = 0;
    for (std::size_t p = first_seen(shape, position); p <= position; ++p) {
      const auto key = numbers(shape, 1, p);
      const auto value = numbers(shape, 2, p);
      double score = 0;
      for (std::size_t d = 0; d < shape.head_dim; ++d) score += double{q[h * shape.head_dim + d]} * double{key[kv + d]};
      score *= double{shape.scale};
      if (shape.soft_cap > 0) score = double{shape.soft_cap} * std::tanh(score / double{shape.soft_cap});
      const double weight = std::exp(score);
      total += weight;
      for (std::size_t d = 0; d < shape.head_dim; ++d) sums[d] += weight * double{value[kv + d]};
    }
    for (std::size_t d = 0; d < shape.head_dim; ++d) {
      out[h * shape.head_dim + d] = static_cast<float>(sums[d] / total);
    }
  }
  return out;
}

AttentionArgs arguments(const Shape& shape) {
  return {.layer = 0, .heads = shape.heads, .scale = shape.scale, .soft_cap = shape.soft_cap};
}

/// Attention of positions [begin, end), which the cache holds, in one call.
std::vector<float> attend(const KvCache& cache, const Shape& shape, Compute& compute, std::size_t begin,
                          std::size_t end) {
  std::vector<Query> queries;
  std::vector<float> q;
  for (std::size_t p = begin; p < end; ++p) {
    queries.push_back({&cache, first_seen(shape, p), p + 1});
    const auto row = numbers(shape, 0, p);
    q.insert(q.end(), row.begin(), row.end());
  }
  std::vector<float> out(q.size());
  attention(compute, arguments(shape), queries, q.data(), out.data());
  return out;
}

/// As a session is saved and restored.
void adopt(KvCache& restored, const KvCache& cache) {
  static std::deque<std::vector<std::byte>> files;  // which outlive the caches
  std::vector<std::byte>& bytes = files.emplace_back();
  cache.each_page([&](std::span<const std::byte> data) { bytes.insert(bytes.end(), data.begin(), data.end()); });
  const auto layers = cache.saved_layers();
  CHECK(bytes.size() == restored.saved_bytes(cache.length(), layers));
  restored.adopt(cache.length(), layers, nullptr, bytes.data());
}

const std::vector<Shape> shapes = {{},
                                   {3, 1, 7, 0},
                                   {4, 4, 33, 100},
                                   {20, 1, 16, 6},
                                   {8, 2, 32, 300},
                                   {6, 2, 20, 0, 0.25F},
                                   {6, 2, 20, 70, 0.5F, 1.5F}};

}  // namespace

TEST("attention is its formula, whatever the shape, the window and the kernels") {
  for (const Shape& shape : shapes) {
    for_each_table([&](const kernels::Kernels& k) {
      ThreadPool pool(2);
      Compute compute(k, pool);
      for (const auto& [type, tolerance] :
           {std::pair{CacheType::f32, 2e-5F}, {CacheType::f16, 5e-3F}, {CacheType::int8, 1e-1F}}) {
        KvCache cache(config(shape), type, 700, 30);
        for (const std::size_t length : {1, 63, 64, 65, 257, 600}) {
          while (cache.length() < length) store(cache, shape, k, std::min<std::size_t>(30, length - cache.length()));
          check_close(std::string(k.name) + " attention", attend(cache, shape, compute, length - 1, length),
                      formula(shape, length - 1), 0, tolerance);
        }
      }
    });
  }
}

TEST("tokens at once, one by one, and any number of threads give the same bits") {
  for (const Shape& shape : shapes) {
    ThreadPool alone(1);
    Compute reference(kernels::best(), alone);
    for (const auto type : {CacheType::f32, CacheType::f16, CacheType::int8}) {
      KvCache cache(config(shape), type, 700, 40);
      while (cache.length() < 560) store(cache, shape, kernels::best(), 40);
      std::vector<float> expected;
      for (std::size_t p = 520; p < 560; ++p) {
        const auto row = attend(cache, shape, reference, p, p + 1);
        expected.insert(expected.end(), row.begin(), row.end());
      }
      for (const int threads : {1, 2, 5}) {
        ThreadPool pool(threads);
        Compute compute(kernels::best(), pool);
        CHECK(same_bits(attend(cache, shape, compute, 520, 560), expected));
        std::vector<float> parts;
        for (std::size_t p = 520, count = 1; p < 560; p += count, ++count) {
          const auto rows = attend(cache, shape, compute, p, std::min<std::size_t>(p + count, 560));
          parts.insert(parts.end(), rows.begin(), rows.end());
        }
        CHECK(same_bits(parts, expected));
      }
    }
  }
}

TEST("positions of a block that see each other are the formula of the whole block, in one tile or many") {
  const Shape shape;
  ThreadPool pool(3);
  Compute compute(kernels::best(), pool);
  KvCache cache(config(shape), CacheType::f32, 700, 700);
  store(cache, shape, kernels::best(), 300);
  constexpr std::size_t begin = 130;  // 70 positions over the end of a page
  constexpr std::size_t end = 200;
  std::vector<Query> queries;
  std::vector<float> q;
  for (std::size_t p = begin; p < end; ++p) {
    queries.push_back({&cache, p < 150 ? 0 : p - 149, end});
    const auto row = numbers(shape, 0, p);
    q.insert(q.end(), row.begin(), row.end());
  }
  std::vector<float> out(q.size());
  attention(compute, arguments(shape), queries, q.data(), out.data());
  for (std::size_t i = 0; i < queries.size(); ++i) {
    std::vector<float> alone(q.size() / queries.size());
    const float* row = q.data() + i * alone.size();
    attention(compute, arguments(shape), std::span(queries).subspan(i, 1), row, alone.data());
    CHECK(same_bits(alone, std::vector<float>(out.begin() + static_cast<std::ptrdiff_t>(i * alone.size()),
                                              out.begin() + static_cast<std::ptrdiff_t>((i + 1) * alone.size()))));
  }
  // The last of the block sees what a causal query at its place sees.
  Shape causal = shape;
  causal.window = end - queries.back().first;
  check_close("block",
              std::vector<float>(out.end() - static_cast<std::ptrdiff_t>(out.size() / queries.size()), out.end()),
              formula(causal, end - 1), 0, 2e-5F);
}

TEST("layers of one cache have heads of their own") {
  ModelShape model;
  model.file_layers = 2;
  model.layers = {{.file_index = 0, .kv_source = 0, .kv_heads = 2, .head_dim = 20, .window = 100},
                  {.file_index = 1, .kv_source = 1, .kv_heads = 1, .head_dim = 34}};
  for (const auto type : {CacheType::f32, CacheType::f16, CacheType::int8}) {
    KvCache both(model, type, 300, 30);
    CHECK(both.kv_heads(0) == 2 && both.head_dim(0) == 20 && both.kv_heads(1) == 1 && both.head_dim(1) == 34);
    ThreadPool pool(2);
    Compute compute(kernels::best(), pool);
    for (const auto& [layer, shape] : {std::pair{std::size_t{0}, Shape{6, 2, 20, 100}}, {1, Shape{3, 1, 34, 0}}}) {
      KvCache alone(config(shape), type, 300, 30);
      while (alone.length() < 240) store(alone, shape, kernels::best(), 30);
      KvCache mixed(model, type, 300, 30);
      while (mixed.length() < 240) {
        mixed.prepare(30);
        for (std::size_t p = mixed.length(); p < mixed.length() + 30; ++p) {
          const auto key = numbers(shape, 1, p);
          const auto value = numbers(shape, 2, p);
          for (std::size_t h = 0; h < shape.kv_heads; ++h) {
            const std::size_t at = h * shape.head_dim;
            mixed.store(kernels::best(), layer, p, h, key.data() + at, value.data() + at);
          }
        }
        mixed.advance(30);
      }
      const auto q = numbers(shape, 0, 239);
      std::vector<float> out(q.size());
      const Query query{&mixed, first_seen(shape, 239), 240};
      attention(compute, {.layer = layer, .heads = shape.heads}, {&query, 1}, q.data(), out.data());
      CHECK(same_bits(out, attend(alone, shape, compute, 239, 240)));
    }
  }
}

TEST("sequences of different lengths attend together as each alone") {
  const Shape shape;
  ThreadPool pool(3);
  Compute compute(kernels::best(), pool);
  std::deque<KvCache> caches;
  std::vector<Query> queries;
  std::vector<float> q;
  std::vector<float> expected;
  for (const std::size_t length : {5, 400, 64, 129}) {
    caches.emplace_back(config(shape), CacheType::f16, 700, 400);
    store(caches.back(), shape, kernels::best(), length);
    const auto row = numbers(shape, 0, length - 1);
    q.insert(q.end(), row.begin(), row.end());
    const auto alone = attend(caches.back(), shape, compute, length - 1, length);
    expected.insert(expected.end(), alone.begin(), alone.end());
  }
  for (const KvCache& cache : caches) queries.push_back({&cache, 0, cache.length()});
  std::vector<float> out(q.size());
  attention(compute, arguments(shape), queries, q.data(), out.data());
  CHECK(same_bits(out, expected));
}

TEST("a number that is none shows in the rows that see it, and in no other of the call") {
  constexpr std::size_t spoiled = 70;
  for (const Shape& shape : {Shape{}, Shape{6, 2, 20, 5}, Shape{4, 4, 20, 2}, Shape{4, 4, 20, 30}}) {
    for_each_table([&](const kernels::Kernels& k) {
      ThreadPool pool(2);
      Compute compute(k, pool);
      for (const auto type : {CacheType::f32, CacheType::f16, CacheType::int8}) {
        KvCache cache(config(shape), type, 200, 200);
        store(cache, shape, k, 150);
        auto key = numbers(shape, 1, spoiled);
        key[3] = not_a_number;
        cache.store(k, 0, spoiled, 0, key.data(), key.data());
        constexpr std::size_t begin = 60;
        const auto out = attend(cache, shape, compute, begin, 150);
        const std::size_t row = shape.heads * shape.head_dim;
        const std::size_t group = row / shape.kv_heads;  // of the KV head that was spoiled
        for (std::size_t i = 0; i < out.size(); ++i) {
          const std::size_t p = begin + i / row;
          const bool sees = first_seen(shape, p) <= spoiled && spoiled <= p && i % row < group;
          CHECK(std::isnan(out[i]) == sees);
        }
      }
    });
  }
}

TEST("forks share pages until one of them writes, and do not see each other") {
  for (const Shape& shape : {Shape{}, Shape{6, 2, 20, 50}}) {
    ThreadPool pool(1);
    Compute compute(kernels::best(), pool);
    KvCache cache(config(shape), CacheType::f16, 2000, 20);
    while (cache.length() < 400) store(cache, shape, kernels::best(), 20);
    const auto expected = attend(cache, shape, compute, 399, 400);
    const std::unique_ptr<Cache> forked = cache.fork();
    auto& fork = static_cast<KvCache&>(*forked);
    const auto place = [](const KvCache& c, std::size_t p) { return c.rows(0, 0, p).keys.data; };
    for (const std::size_t p : {360, 390}) CHECK(place(fork, p) == place(cache, p));
    const std::vector<float> other(shape.head_dim, 100.0F);
    for (std::size_t i = 0; i < 100; ++i) {
      fork.prepare(1);
      for (std::size_t h = 0; h < 2; ++h) fork.store(kernels::best(), 0, 400 + i, h, other.data(), other.data());
      fork.advance(1);
    }
    CHECK(place(fork, 390) != place(cache, 390) && place(fork, 380) == place(cache, 380));  // 384 begins a page
    CHECK(same_bits(attend(cache, shape, compute, 399, 400), expected));
    while (cache.length() < 480) store(cache, shape, kernels::best(), 20);
    KvCache replay(config(shape), CacheType::f16, 2000, 20);
    while (replay.length() < 480) store(replay, shape, kernels::best(), 20);
    CHECK(same_bits(attend(cache, shape, compute, 479, 480), attend(replay, shape, compute, 479, 480)));
    CHECK(fork.length() == 500 && place(fork, 410) != place(cache, 410));
  }
}

TEST("a cache takes memory as it grows, an int8 one about half of an f16 one") {
  const Shape shape{8, 2, 256, 0};
  std::vector<std::size_t> bytes;
  for (const auto type : {CacheType::f32, CacheType::f16, CacheType::int8}) {
    KvCache cache(config(shape), type, 1 << 20, 256);
    store(cache, shape, kernels::best(), page + 1);
    std::size_t held = 0;
    cache.each_page([&](std::span<const std::byte> data) { held += data.size(); });
    CHECK(held == cache.saved_bytes(page + 1, cache.saved_layers()) && held == cache.bytes());
    const KvCache::SavedLayer one_page{0, 1};
    CHECK(held == 2 * cache.saved_bytes(page, std::span(&one_page, 1)).value());
    bytes.push_back(held);
  }
  CHECK(bytes[0] == 2 * bytes[1] && bytes[2] * 100 < bytes[1] * 51);
}

TEST("rewinding a ring is refused where it would need what was overwritten or never held") {
  const Shape shape{6, 2, 20, 50};
  const auto k = kernels::best();
  KvCache cache(config(shape), CacheType::f16, 2000, 20);
  while (cache.length() < 400) store(cache, shape, k, 20);
  const std::size_t pages = (50 + 20 + page - 2) / page + 1;
  const std::size_t lowest = 400 - pages * page + 49;  // its window begins at the oldest slot
  CHECK(!cache.rewind(lowest - 1) && cache.length() == 400);
  CHECK(cache.rewind(lowest) && cache.length() == lowest);
  KvCache restored(config(shape), CacheType::f16, 2000, 90);
  adopt(restored, cache);
  CHECK(!restored.rewind(lowest - 1) && restored.rewind(lowest) && restored.rewind(0));
}

TEST("a restored ring can be rewound as far as the one that was saved, and holds what that holds") {
  const Shape shape{6, 2, 20, 50};
  const auto k = kernels::best();
  ThreadPool pool(1);
  Compute compute(k, pool);
  const auto lowest = [](const KvCache& cache) {
    std::size_t length = cache.length();
    while (length > 1 && cache.can_rewind(length - 1)) --length;
    return length;
  };
  for (std::size_t length = 40; length < 400; length += 23) {
    for (const std::size_t back : {0, 1, 40}) {
      KvCache cache(config(shape), CacheType::f16, 2000, 20);
      while (cache.length() < length) store(cache, shape, k, std::min<std::size_t>(20, length - cache.length()));
      CHECK(!cache.can_rewind(length - back) || cache.rewind(length - back));
      for (const std::size_t chunk : {20, 1, 200}) {  // rings of the same length, a shorter one and a longer one
        KvCache restored(config(shape), CacheType::f16, 2000, chunk);
        adopt(restored, cache);
        const std::size_t least = lowest(restored);
        CHECK(chunk == 20 ? least == lowest(cache) : least >= lowest(cache));
        CHECK(restored.rewind(least));
        store(restored, shape, k, 1);
        KvCache replay(config(shape), CacheType::f16, 2000, 20);
        while (replay.length() <= least) store(replay, shape, k, 1);
        CHECK(same_bits(attend(restored, shape, compute, least, least + 1),
                        attend(replay, shape, compute, least, least + 1)));
      }
    }
  }
}

TEST("layers that lack what the next token sees are refused") {
  KvCache cache(config({6, 2, 20, 50}), CacheType::f16, 2000, 20);
  const auto refused = [&](KvCache::SavedLayer layer) { return !cache.saved_bytes(400, std::span(&layer, 1)); };
  CHECK(!refused({351, 2}) && !refused({300, 3}) && !refused({0, 7}));  // 351 is the first that is seen
  CHECK(refused({352, 2}) && refused({351, 1}) && refused({0, 8}) && refused({~0ULL, ~0ULL}));
  CHECK(!cache.saved_bytes(400, {}));
}

int main() { return check::run_tests(); }
