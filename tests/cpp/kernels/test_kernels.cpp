#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "kernels/half.hpp"
#include "kernels/kernel_inputs.hpp"
#include "kernels/kernels.hpp"

// Everything but products: each table against scalar, at every length that can leave a tail.
namespace {

using namespace gemlet;
using namespace gemlet::kernels;
using namespace kernel_inputs;

constexpr std::size_t longest = 130;
constexpr float ulp = 0x1p-23F;  // the distance of neighbours, relative to a float, at most

// f(table, n, random) for every table and length; scalar too, against itself: a reading past the end is caught by the
// sanitizers there as well.
template <typename F>
void for_each_length(std::uint32_t seed, const F& f) {
  for_each_table([&](const Kernels& k) {
    Random random(seed);
    for (std::size_t n = 1; n <= longest; ++n) f(k, n, random);
  });
}

std::string name_of(const Kernels& k, const char* kernel, std::size_t n) {
  return std::string(k.name) + " " + kernel + ", n = " + std::to_string(n);
}

template <typename F>
void check_in_place(const char* kernel, const std::vector<float>& x, const Kernels& k, const F& f, float relative,
                    float absolute) {
  auto actual = x;
  auto expected = x;
  f(k, actual);
  f(scalar(), expected);
  check_close(name_of(k, kernel, x.size()), actual, expected, relative, absolute);
}

}  // namespace

TEST("the best table is the first of the available ones, scalar is the last") {
  const Kernels* const* tables = nullptr;
  const std::size_t count = available(&tables);
  CHECK(count >= 1);
  CHECK(tables[0] == &best());
  CHECK(tables[count - 1] == &scalar());
  CHECK(std::string_view(scalar().name) == "scalar");
  std::printf("      best: %s\n", best().name);
}

TEST("every type has its kernels in every table, every other id has none") {
  for_each_table([](const Kernels& k) {
    for (std::uint32_t id = 0; id < dtype_table_size; ++id) {
      const bool known = find_dtype(id) != nullptr;
      CHECK(known == (k.weights[id].matmul != nullptr));
      CHECK(known == (k.weights[id].dequantize != nullptr));
      if (known) CHECK(k.weights[id].quantized_activations == (traits(static_cast<DType>(id)).elements > 1));
    }
  });
  CHECK(find_dtype(dtype_table_size) == nullptr);
  CHECK(find_dtype(0xFFFFFFFFU) == nullptr);
}

TEST("quantize_activations: the same bits as scalar") {
  for_each_table([](const Kernels& k) {
    Random random(1);
    for (std::size_t n = 32; n <= 32 * 9; n += 32) {
      for (int kind = 0; kind < 6; ++kind) {
        auto x = kind == 0 ? normals(random, n) : mixed(random, n);
        if (kind == 2) std::fill(x.begin(), x.begin() + 32, 0.0F);
        if (kind == 3) x[random.below(n)] = not_a_number;
        if (kind == 4) x[random.below(n)] = -infinity;
        if (kind == 5) {
          for (std::size_t i = 0; i < n; ++i) x[i] = 127.0F * static_cast<float>(i % 2) + 0.5F * static_cast<float>(i);
        }
        std::vector<ActivationBlock> actual(n / 32);
        std::vector<ActivationBlock> expected(n / 32);
        k.quantize_activations(x.data(), actual.data(), n);
        scalar().quantize_activations(x.data(), expected.data(), n);
        for (std::size_t b = 0; b < n / 32; ++b) {
          const bool both_nan = std::isnan(actual[b].scale) && std::isnan(expected[b].scale);
          CHECK(both_nan || std::memcmp(&actual[b], &expected[b], sizeof(ActivationBlock)) == 0);
          CHECK(!both_nan || std::memcmp(actual[b].q, expected[b].q, 32) == 0);
          CHECK(!both_nan || (std::isnan(actual[b].scale) && std::isnan(actual[b].sum)));
        }
      }
    }
  });
}

TEST("quantize_activations: values within half a step, codes within 127, sums exact") {
  for_each_table([](const Kernels& k) {
    Random random(2);
    for (int repeat = 0; repeat < 2000; ++repeat) {
      std::vector<float> x(32);
      const float magnitude = std::exp2(random.symmetric(125));
      for (float& v : x) v = random.symmetric(magnitude);
      ActivationBlock block;
      k.quantize_activations(x.data(), &block, 32);
      int sums[2] = {};
      for (std::size_t i = 0; i < 32; ++i) {
        CHECK(block.q[i] >= -127);
        sums[i / 16] += block.q[i];
        CHECK(std::fabs(static_cast<float>(block.q[i]) * block.scale - x[i]) <= 0.50001F * block.scale ||
              block.scale == 0);
      }
      CHECK(block.sum == block.scale * static_cast<float>(sums[0] + sums[1]));
      CHECK(block.minus_8_sum == -8 * (sums[0] + sums[1]));
      CHECK(block.half_sums[0] == sums[0] && block.half_sums[1] == sums[1]);
      CHECK(block.scale != 0 || magnitude < 1e-35F);
    }
  });
}

TEST("mean_square, rms_norm") {
  for_each_length(3, [](const Kernels& k, std::size_t n, Random& random) {
    for (const auto& x : {normals(random, n), mixed(random, n), std::vector<float>(n, 1e25F)}) {
      CHECK(close(k.mean_square(x.data(), n), scalar().mean_square(x.data(), n), ulp, 0));
      const auto weight = normals(random, n);
      for (const float* w : {weight.data(), static_cast<const float*>(nullptr)}) {
        std::vector<float> actual(n);
        std::vector<float> expected(n);
        k.rms_norm(x.data(), w, 1e-6F, actual.data(), n);
        scalar().rms_norm(x.data(), w, 1e-6F, expected.data(), n);
        check_close(name_of(k, "rms_norm", n), actual, expected, 4 * ulp, 1e-44F);  // three roundings; a denormal step
        auto in_place = x;
        k.rms_norm(in_place.data(), w, 1e-6F, in_place.data(), n);
        CHECK(same_bits(in_place, actual));
      }
    }
  });
}

TEST("rms_norm of known values") {
  for_each_table([](const Kernels& k) {
    const std::vector<float> x{3, 4, 0, 0};
    const std::vector<float> weight{2, 2, 2, 2};
    std::vector<float> out(4);
    k.rms_norm(x.data(), weight.data(), 0, out.data(), 4);  // rms = sqrt(25 / 4) = 2.5
    check_close(k.name, out, {2.4F, 3.2F, 0, 0}, ulp, 0);
    k.rms_norm(x.data(), nullptr, 2.75F, out.data(), 4);  // sqrt(6.25 + 2.75) = 3
    check_close(k.name, out, {1, 4.0F / 3, 0, 0}, ulp, 0);
  });
}

TEST("rope") {
  for_each_length(4, [](const Kernels& k, std::size_t half, Random& random) {
    std::vector<float> cos(half);
    std::vector<float> sin(half);
    for (std::size_t i = 0; i < half; ++i) {
      const float angle = random.symmetric(100);
      cos[i] = std::cos(angle);
      sin[i] = std::sin(angle);
    }
    // Of magnitude at most 4; the products may cancel.
    check_in_place(
        "rope", normals(random, 2 * half), k,
        [&](const Kernels& t, auto& x) { t.rope(x.data(), cos.data(), sin.data(), x.size()); }, 0, 8 * ulp);
  });
  for_each_table([](const Kernels& k) {
    std::vector<float> x{1, 2, 3, 4};
    const std::vector<float> cos{0, 1};
    const std::vector<float> sin{1, 0};
    k.rope(x.data(), cos.data(), sin.data(), 4);  // (1, 3) by a right angle, (2, 4) not at all
    CHECK(same_bits(x, {-3, 2, 1, 4}));
  });
}

TEST("softmax_piece") {
  for_each_length(5, [](const Kernels& k, std::size_t n, Random& random) {
    // Pieces of different magnitudes, so that the maximum stays, grows, and grows by far.
    for (const float magnitude : {1.0F, 30.0F, 1e30F}) {
      float max = -infinity, oracle_max = -infinity;
      float sum = 0, oracle_sum = 0;
      for (int piece = 0; piece < 3; ++piece) {
        auto x = normals(random, n);
        for (float& v : x) v *= magnitude;
        auto expected = x;
        const float factor = k.softmax_piece(x.data(), n, &max, &sum);
        const float oracle_factor = scalar().softmax_piece(expected.data(), n, &oracle_max, &oracle_sum);
        // x - max is the same in both; e^x within 2 ulp; the sum has roundings of its own.
        CHECK(same_bits(max, oracle_max) && (piece > 0 || factor == 0));
        check_close(name_of(k, "softmax_piece", n), x, expected, 4 * ulp, 1e-44F);
        check_close(name_of(k, "softmax_piece's sums", n), {factor, sum}, {oracle_factor, oracle_sum}, 20 * ulp,
                    1e-44F);
      }
    }
  });
}

TEST("softmax_piece: pieces together are the softmax of the row") {
  for_each_length(6, [](const Kernels& k, std::size_t n, Random& random) {
    auto x = normals(random, n);
    for (float& v : x) v *= 5;
    const std::size_t split = random.below(n);
    float max = -infinity;
    float sum = 0;
    float weighted = 0;  // of the positions' numbers
    const auto row = x;
    for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, split}, {split, n}}) {
      if (begin == end) continue;
      weighted *= k.softmax_piece(x.data() + begin, end - begin, &max, &sum);
      for (std::size_t i = begin; i < end; ++i) weighted += x[i] * static_cast<float>(i);
    }
    double expected_sum = 0;
    double expected = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double weight = std::exp(static_cast<double>(row[i] - *std::max_element(row.begin(), row.end())));
      expected_sum += weight;
      expected += weight * static_cast<double>(i);
    }
    CHECK(close(weighted / sum, static_cast<float>(expected / expected_sum), 100 * ulp, 0));
  });
}

TEST("softmax_piece: NaN and infinity reach the sum, and a later piece does not hide them") {
  for_each_length(7, [](const Kernels& k, std::size_t n, Random& random) {
    for (const float bad : {not_a_number, infinity}) {
      auto x = normals(random, n);
      x[random.below(n)] = bad;
      float max = -infinity;
      float sum = 0;
      k.softmax_piece(x.data(), n, &max, &sum);
      CHECK(std::isnan(sum));
      x = normals(random, n);
      k.softmax_piece(x.data(), n, &max, &sum);
      CHECK(std::isnan(sum));
    }
  });
}

TEST("gelu_mul") {
  for_each_length(7, [](const Kernels& k, std::size_t n, Random& random) {
    const auto up = normals(random, n);
    const auto run = [&](const Kernels& t, auto& x) { t.gelu_mul(x.data(), up.data(), x.size()); };
    // The exponent's error is that of the argument, up to 100, times ulp / 2; e^x has 2 ulp of its own.
    auto x = normals(random, n);
    for (float& v : x) v *= 2;
    // The oracle's 1 + tanh loses what is below 2^-53.
    check_in_place("gelu_mul", x, k, run, 100 * ulp, 1e-14F);
    check_in_place("gelu_mul", mixed(random, n), k, run, 100 * ulp, 1e-14F);
  });
}

TEST("gelu_mul of known values") {
  for_each_table([](const Kernels& k) {
    // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) in 30 digits.
    std::vector<float> x{0, 1, -1, 0.5F, -3, 10, -10, 100, -100, infinity};
    const std::vector<float> up(x.size(), 2);
    const std::vector<float> expected{0,  1.6823840F, -0.31761600F, 0.69142802F, -0.0072747842F,
                                      20, 0,          200,          0,           infinity};
    k.gelu_mul(x.data(), up.data(), x.size());
    check_close(k.name, x, expected, 4 * ulp, 1e-30F);
    x[0] = not_a_number;
    x[1] = -infinity;
    k.gelu_mul(x.data(), up.data(), x.size());
    CHECK(std::isnan(x[0]));
    CHECK(!std::isfinite(x[1]));
  });
}

TEST("gaussian_topk") {
  for_each_length(8, [](const Kernels& k, std::size_t n, Random& random) {
    auto x = normals(random, n);
    for (float& v : x) v += 3;  // a mean far from zero
    for (const float multiplier : {1.6448536F, 0.0F, -0.5F}) {
      // The cutoff, near 5, is rounded once.
      check_in_place(
          "gaussian_topk", x, k, [&](const Kernels& t, auto& y) { t.gaussian_topk(y.data(), multiplier, y.size()); }, 0,
          4 * ulp);
    }
  });
}

TEST("gaussian_topk of known values") {
  for_each_table([](const Kernels& k) {
    std::vector<float> x{2, 4, 4, 4, 5, 5, 7, 9};  // mean 5, population standard deviation 2
    k.gaussian_topk(x.data(), 0.5F, x.size());
    CHECK(same_bits(x, {0, 0, 0, 0, 0, 0, 1, 3}));
    x.assign(9, 0.1F);
    x[3] = not_a_number;
    k.gaussian_topk(x.data(), 1, x.size());
    for (const float v : x) CHECK(std::isnan(v));
  });
}

TEST("soft_cap") {
  for_each_length(9, [](const Kernels& k, std::size_t n, Random& random) {
    auto x = normals(random, n);
    for (float& v : x) v *= 30;
    const auto run = [](const Kernels& t, auto& y) { t.soft_cap(y.data(), 30, y.size()); };
    check_in_place("soft_cap", x, k, run, 6 * ulp, 0);  // tanh within 3 ulp, a division, a product
    check_in_place("soft_cap", mixed(random, n), k, run, 6 * ulp, 1e-43F);
  });
  for_each_table([](const Kernels& k) {
    std::vector<float> x{infinity, -infinity, 1e30F, not_a_number, 0, -0.0F, 30};
    k.soft_cap(x.data(), 30, x.size());
    check_close(k.name, x, {30, -30, 30, not_a_number, 0, 0, 22.847825F}, 4 * ulp, 0);
    CHECK(std::signbit(x[5]));
  });
}

TEST("axpy, add, mul, scale") {
  for_each_length(10, [](const Kernels& k, std::size_t n, Random& random) {
    const auto x = mixed(random, n);
    const auto y = mixed(random, n);
    const float a = random.normal();
    auto actual = y;
    k.axpy(a, x.data(), actual.data(), n);
    for (std::size_t i = 0; i < n; ++i) {  // a rounding of the product less, or not
      CHECK(close(actual[i], y[i] + a * x[i], ulp, ulp * std::fabs(a * x[i]) + 1e-44F));
    }
    actual = y;
    k.add(x.data(), actual.data(), n);
    for (std::size_t i = 0; i < n; ++i) CHECK(same_bits(actual[i], y[i] + x[i]));
    actual = y;
    k.mul(x.data(), actual.data(), n);
    for (std::size_t i = 0; i < n; ++i) CHECK(same_bits(actual[i], y[i] * x[i]));
    actual = y;
    k.scale(a, actual.data(), n);
    for (std::size_t i = 0; i < n; ++i) CHECK(same_bits(actual[i], y[i] * a));
  });
}

TEST("elementwise kernels: each output depends on its own inputs only") {
  for_each_table([](const Kernels& k) {
    Random random(11);
    const auto x = normals(random, longest);
    const auto up = normals(random, longest);
    auto whole = x;
    k.gelu_mul(whole.data(), up.data(), longest);
    auto capped = x;
    k.soft_cap(capped.data(), 2, longest);
    auto summed = x;
    k.axpy(0.3F, up.data(), summed.data(), longest);
    for (std::size_t i = 0; i < longest; ++i) {
      float one = x[i];
      k.gelu_mul(&one, &up[i], 1);
      CHECK(same_bits(one, whole[i]));
      one = x[i];
      k.soft_cap(&one, 2, 1);
      CHECK(same_bits(one, capped[i]));
      one = x[i];
      k.axpy(0.3F, &up[i], &one, 1);
      CHECK(same_bits(one, summed[i]));
    }
  });
}

TEST("cache: float to half rounds as the scalar code does, for every exponent") {
  for_each_table([](const Kernels& k) {
    Random random(12);
    std::vector<float> x(9973);
    for (float& v : x) v = std::bit_cast<float>(random.bits());
    std::vector<std::uint16_t> row(x.size());
    k.cache_f16.store(x.data(), x.size(), row.data(), nullptr);
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(row[i] == float_to_half(x[i]));
  });
}

TEST("cache: int8 rows are within half a step, and show numbers that are none") {
  for_each_length(14, [](const Kernels& k, std::size_t n, Random& random) {
    for (auto x : {normals(random, n), mixed(random, n), std::vector<float>(n, 0.0F), std::vector<float>(n, 1e-38F)}) {
      std::vector<std::int8_t> row(n), expected(n);
      float scale = -1, expected_scale = -1;
      k.cache_int8.store(x.data(), n, row.data(), &scale);
      scalar().cache_int8.store(x.data(), n, expected.data(), &expected_scale);
      CHECK(row == expected && same_bits(scale, expected_scale));
      const float largest = std::fabs(
          *std::max_element(x.begin(), x.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
      CHECK(scale == (largest / 127 >= std::numeric_limits<float>::min() ? largest / 127 : 0));
      for (std::size_t i = 0; i < n && scale > 0; ++i) {
        CHECK(std::fabs(static_cast<float>(row[i]) * scale - x[i]) <= 0.50001F * scale);
      }
      for (const float bad : {not_a_number, -infinity}) {
        x[random.below(n)] = bad;
        k.cache_int8.store(x.data(), n, row.data(), &scale);
        CHECK(std::isnan(scale));
      }
    }
  });
}

TEST("cache: scores, accumulate and store") {
  struct Cache {
    CacheKernels Kernels::* kernels;
    std::size_t bytes;
  };
  for_each_length(13, [](const Kernels& k, std::size_t head_dim, Random& random) {
    for (const Cache& type : {Cache{&Kernels::cache_f32, 4}, {&Kernels::cache_f16, 2}, {&Kernels::cache_int8, 1}}) {
      const CacheKernels& cache = k.*type.kernels;
      const CacheKernels& oracle = scalar().*type.kernels;
      const std::size_t row_bytes = head_dim * type.bytes;
      const std::size_t positions = 1 + random.below(19);
      const std::size_t queries = 1 + random.below(9);
      const auto values = normals(random, positions * head_dim);
      std::vector<std::uint8_t> rows(positions * row_bytes);
      std::vector<float> scales(positions, 1.0F);
      for (std::size_t i = 0; i < positions; ++i) {
        cache.store(values.data() + i * head_dim, head_dim, rows.data() + i * row_bytes, &scales[i]);
      }
      const auto q = normals(random, queries * head_dim);
      const std::size_t stride = positions + random.below(5);
      const auto score = [&](const CacheKernels& kernels, std::size_t query, std::size_t count, std::size_t position,
                             std::size_t end, std::vector<float>& out) {
        kernels.scores({.weights = rows.data() + position * row_bytes,
                        .activations = q.data() + query * head_dim,
                        .out = out.data() + query * stride + position,
                        .row_bytes = row_bytes,
                        .rows = end - position,
                        .cols = head_dim,
                        .tokens = count,
                        .out_stride = stride});
      };
      std::vector<float> actual(queries * stride);
      std::vector<float> expected(queries * stride);
      score(cache, 0, queries, 0, positions, actual);
      score(oracle, 0, queries, 0, positions, expected);
      // Sums of up to 130 products of magnitude up to 9, in float: 2^-24 of each partial sum.
      const float largest = type.bytes == 1 ? 127 : 3;
      check_close(name_of(k, "scores", head_dim), actual, expected, 0, 3e-7F * largest * static_cast<float>(head_dim));

      const auto weights = normals(random, queries * stride);
      const auto accumulate = [&](const CacheKernels& kernels, std::size_t query, std::size_t count,
                                  std::size_t position, std::size_t end, std::vector<float>& acc) {
        kernels.accumulate({.weights = weights.data() + query * stride + position,
                            .stride = stride,
                            .queries = count,
                            .values = rows.data() + position * row_bytes,
                            .positions = end - position,
                            .head_dim = head_dim,
                            .acc = acc.data() + query * head_dim});
      };
      std::vector<float> acc(queries * head_dim, 0.5F);
      std::vector<float> oracle_acc(queries * head_dim, 0.5F);
      accumulate(cache, 0, queries, 0, positions, acc);
      accumulate(oracle, 0, queries, 0, positions, oracle_acc);
      check_close(name_of(k, "accumulate", head_dim), acc, oracle_acc, 0,
                  3e-7F * largest * static_cast<float>(positions));

      // The same bits however the positions are split into runs and the queries into calls.
      const std::size_t split = random.below(positions + 1);
      std::vector<float> parts(queries * stride);
      std::vector<float> acc_parts(queries * head_dim, 0.5F);
      for (std::size_t query = 0; query < queries; ++query) {
        score(cache, query, 1, 0, split, parts);
        score(cache, query, 1, split, positions, parts);
        accumulate(cache, query, 1, 0, split, acc_parts);
        accumulate(cache, query, 1, split, positions, acc_parts);
      }
      CHECK(same_bits(parts, actual));
      CHECK(same_bits(acc_parts, acc));
    }
  });
}

TEST("peak: does as many multiply-adds as it says") {
  for_each_table([](const Kernels& k) {
    const auto check_ones = [](PeakKernels::Fn peak, const void* ones) {
      float sum = 0;
      const std::size_t count = peak(static_cast<const std::uint8_t*>(ones), 3, &sum);
      CHECK(count > 0 && count % 3 == 0);
      CHECK(sum == static_cast<float>(count));
    };
    const std::vector<std::uint8_t> bytes(peak_data_bytes, 1);
    check_ones(k.peak.bytes, bytes.data());
    check_ones(k.peak.half_bytes, bytes.data());
    const std::vector<float> floats(peak_data_bytes / sizeof(float), 1.0F);
    check_ones(k.peak.floats, floats.data());
  });
}

int main() { return check::run_tests(); }
