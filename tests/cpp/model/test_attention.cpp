#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "check.hpp"
#include "kernels/kernel_inputs.hpp"
#include "model/compute.hpp"

// Compute::attention against its formula, and against itself in other groupings; and the cache's pages.
namespace {

using namespace gemlet;
using namespace kernel_inputs;

constexpr std::size_t page = KvCache::page_positions;

struct Shape {
  std::size_t heads = 6;
  std::size_t kv_heads = 2;
  std::size_t head_dim = 20;
  std::size_t window = 0;  // 0: full attention
};

Gemma3nConfig config(const Shape& shape) {
  Gemma3nConfig config;
  config.num_attention_heads = shape.heads;
  config.num_key_value_heads = shape.kv_heads;
  config.head_dim = shape.head_dim;
  config.sliding_window = shape.window;
  config.layers.resize(1);
  config.file_layers = 1;
  config.layers[0].sliding = shape.window > 0;
  return config;
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

/// Attention of positions [begin, end), which the cache holds, in one call.
std::vector<float> attend(const KvCache& cache, const Shape& shape, Compute& compute, std::size_t begin,
                          std::size_t end) {
  std::vector<Compute::Query> queries;
  std::vector<float> q;
  for (std::size_t p = begin; p < end; ++p) {
    queries.push_back({&cache, first_seen(shape, p), p + 1});
    const auto row = numbers(shape, 0, p);
    q.insert(q.end(), row.begin(), row.end());
  }
  std::vector<float> out(q.size());
  compute.attention(queries, 0, shape.heads, shape.kv_heads, shape.head_dim, q.data(), out.data());
  return out;
}

const std::vector<Shape> shapes = {{}, {3, 1, 7, 0}, {4, 4, 33, 100}, {20, 1, 16, 6}, {8, 2, 32, 300}};

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

TEST("sequences of different lengths attend together as each alone") {
  const Shape shape;
  ThreadPool pool(3);
  Compute compute(kernels::best(), pool);
  std::vector<KvCache> caches;
  std::vector<Compute::Query> queries;
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
  compute.attention(queries, 0, shape.heads, shape.kv_heads, shape.head_dim, q.data(), out.data());
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
    KvCache fork = cache.fork();
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
    CHECK(held == 2 * cache.page_bytes() && cache.page_count(page + 1) == 2);
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
  std::vector<std::byte> bytes;
  cache.each_page([&](std::span<const std::byte> data) { bytes.insert(bytes.end(), data.begin(), data.end()); });
  CHECK(bytes.size() == cache.page_count(lowest) * cache.page_bytes());
  restored.adopt(lowest, std::shared_ptr<const std::byte>(std::shared_ptr<void>(), bytes.data()));
  CHECK(!restored.rewind(lowest - 1) && restored.rewind(lowest) && restored.rewind(0));
}

int main() { return check::run_tests(); }
