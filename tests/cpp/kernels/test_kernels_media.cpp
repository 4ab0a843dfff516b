#include <cmath>
#include <vector>

#include "check.hpp"
#include "kernels/kernel_inputs.hpp"
#include "kernels/kernels.hpp"

// The kernels of the encoders for pictures and sound: each table against scalar.
namespace {

using namespace gemlet::kernels;
using namespace kernel_inputs;

constexpr float ulp = 0x1p-23F;

std::vector<float> depthwise(const Kernels& k, const std::vector<float>& weights, const std::vector<const float*>& taps,
                             std::size_t channels) {
  std::vector<float> out(channels + 1, 7.0F);
  k.depthwise(
      {.weights = weights.data(), .taps = taps.data(), .out = out.data(), .count = taps.size(), .channels = channels});
  CHECK(out.back() == 7.0F);
  out.pop_back();
  return out;
}

}  // namespace

TEST("sigmoid_mul") {
  for_each_table([](const Kernels& k) {
    Random random(21);
    for (std::size_t n = 1; n <= 70; ++n) {
      const auto x = mixed(random, n);
      auto gate = normals(random, n);
      for (float& g : gate) g *= 8;
      auto actual = x, expected = x;
      k.sigmoid_mul(actual.data(), gate.data(), n);
      scalar().sigmoid_mul(expected.data(), gate.data(), n);
      check_close(k.name, actual, expected, 40 * ulp, 1e-37F);
      actual = expected = gate;  // SiLU
      k.sigmoid_mul(actual.data(), actual.data(), n);
      scalar().sigmoid_mul(expected.data(), expected.data(), n);
      check_close(k.name, actual, expected, 40 * ulp, 1e-37F);
    }
  });
}

TEST("sigmoid_mul of known values") {
  for_each_table([](const Kernels& k) {
    std::vector<float> x{1, 1, 1, 2, 1, 1, not_a_number, 1};
    const std::vector<float> gate{0, 1, -1, 3, 100, -200, 1, not_a_number};
    k.sigmoid_mul(x.data(), gate.data(), x.size());
    const std::vector<float> expected{0.5F, 0.73105858F, 0.26894142F, 1.9051483F, 1, 0};
    check_close(k.name, {x.begin(), x.begin() + 6}, expected, 4 * ulp, 1e-37F);
    CHECK(std::isnan(x[6]));
    CHECK(std::isnan(x[7]));
  });
}

TEST("layer_norm") {
  for_each_table([](const Kernels& k) {
    Random random(23);
    for (std::size_t n = 1; n <= 150; ++n) {
      const auto weight = normals(random, n), bias = normals(random, n);
      for (auto x : {normals(random, n), mixed(random, n), std::vector<float>(n, 1000.0F)}) {
        for (float& v : x) v += 3;
        std::vector<float> actual(n), expected(n);
        k.layer_norm(x.data(), weight.data(), bias.data(), 1e-6F, actual.data(), n);
        scalar().layer_norm(x.data(), weight.data(), bias.data(), 1e-6F, expected.data(), n);
        check_close(k.name, actual, expected, 8 * ulp, 64 * ulp);  // the bias cancels; normed values are below 13
        k.layer_norm(x.data(), weight.data(), bias.data(), 1e-6F, x.data(), n);
        CHECK(same_bits(x, actual));
      }
    }
  });
}

TEST("layer_norm of known values") {
  for_each_table([](const Kernels& k) {
    const std::vector<float> x{1001, 1002, 1003, 1006}, weight{2, 2, 2, 4}, bias{1, 0, 0, -1};
    std::vector<float> out(4);
    k.layer_norm(x.data(), weight.data(), bias.data(), 0.5F, out.data(), 4);  // mean 1003, variance 14 / 4
    check_close(k.name, out, {-1, -1, 0, 5}, 4 * ulp, 0);
    const std::vector<float> bad{1, not_a_number, 3, 4};
    k.layer_norm(bad.data(), weight.data(), bias.data(), 1, out.data(), 4);
    for (const float v : out) CHECK(std::isnan(v));
  });
}

TEST("depthwise: every number of channels, taps in the padding left out") {
  for_each_table([](const Kernels& k) {
    Random random(22);
    for (std::size_t channels = 1; channels <= 80; ++channels) {
      const std::size_t count = 1 + channels % 25;
      const auto weights = normals(random, count * channels);
      std::vector<std::vector<float>> rows;
      for (std::size_t i = 0; i < count; ++i) rows.push_back(normals(random, channels));
      std::vector<const float*> taps;
      for (const auto& row : rows) taps.push_back(random.below(4) == 0 ? nullptr : row.data());
      const auto actual = depthwise(k, weights, taps, channels);
      check_close(k.name, actual, depthwise(scalar(), weights, taps, channels), 0, 30 * ulp * 4);
      for (std::size_t c = 0; c < channels; ++c) {  // an output depends on its own inputs only
        std::vector<float> column;
        std::vector<const float*> one;
        for (std::size_t i = 0; i < count; ++i) {
          column.push_back(weights[i * channels + c]);
          one.push_back(taps[i] == nullptr ? nullptr : taps[i] + c);
        }
        CHECK(same_bits(depthwise(k, column, one, 1)[0], actual[c]));
      }
    }
  });
}

int main() { return check::run_tests(); }
