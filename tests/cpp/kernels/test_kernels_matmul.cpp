#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "check.hpp"
#include "kernels/kernel_inputs.hpp"
#include "kernels/kernels.hpp"
#include "kernels/weight_inputs.hpp"

namespace {

using namespace gemlet;
using namespace gemlet::kernels;
using namespace kernel_inputs;

const WeightKernels& kernels_of(const Kernels& k, DType type) { return k.weights[static_cast<std::size_t>(type)]; }

struct Problem {
  DType type;
  std::size_t rows;
  std::size_t cols;
  std::size_t tokens;
  Bytes w;
  std::vector<float> x;                 // tokens x cols
  std::vector<ActivationBlock> blocks;  // the same, for quantised weights

  Problem(Random& random, DType t, std::size_t r, std::size_t c, std::size_t n, bool extreme = false)
      : type(t), rows(r), cols(c), tokens(n), w(weights(random, t, r * c, extreme)), x(normals(random, n * c)) {
    if (extreme) {
      for (float& v : x) v = random.below(2) == 0 ? 3.0F : -3.0F;  // codes 127 and -127
    }
    quantize();
  }

  void quantize() {
    if (!kernels_of(scalar(), type).quantized_activations) return;
    blocks.resize(x.size() / 32);
    scalar().quantize_activations(x.data(), blocks.data(), x.size());
  }

  std::size_t row_bytes() const { return cols / traits(type).elements * traits(type).bytes; }

  const void* activations(std::size_t token = 0) const {
    return blocks.empty() ? static_cast<const void*>(x.data() + token * cols) : blocks.data() + token * (cols / 32);
  }

  // The product of some of the rows and tokens, at its place in an otherwise untouched output.
  void run(const Kernels& k, std::size_t row, std::size_t row_count, std::size_t token, std::size_t token_count,
           std::vector<float>& out) const {
    kernels_of(k, type).matmul({.weights = w.data() + row * row_bytes(),
                                .activations = activations(token),
                                .out = out.data() + token * rows + row,
                                .row_bytes = row_bytes(),
                                .rows = row_count,
                                .cols = cols,
                                .tokens = token_count,
                                .out_stride = rows});
  }

  std::vector<float> product(const Kernels& k) const {
    std::vector<float> out(rows * tokens, not_a_number);
    run(k, 0, rows, 0, tokens, out);
    return out;
  }

  // sum |w| |x| for each output: what rounding errors are relative to.
  std::vector<float> magnitudes() const {
    std::vector<float> row(cols);
    std::vector<float> out(rows * tokens);
    for (std::size_t r = 0; r < rows; ++r) {
      kernels_of(scalar(), type).dequantize(w.data() + r * row_bytes(), row.data(), cols);
      for (std::size_t t = 0; t < tokens; ++t) {
        float sum = 0;
        for (std::size_t c = 0; c < cols; ++c) sum += std::fabs(row[c] * x[t * cols + c]);
        out[t * rows + r] = sum;
      }
    }
    return out;
  }
};

std::string name_of(const Kernels& k, const Problem& p) {
  return std::string(k.name) + " " + traits(p.type).name + " " + std::to_string(p.rows) + "x" + std::to_string(p.cols) +
         ", " + std::to_string(p.tokens) + " tokens";
}

// Sums in float, of at most a few thousand terms: each addition adds an error of 2^-24 of a partial sum, which the sum
// of magnitudes bounds. The weights' offsets (8 of 15 codes, a Q4_K min) make partial sums larger than that by a factor
// of up to 3. The bound of 1e-6 is reached only if such errors add up instead of cancelling.
void check_product(const Kernels& k, const Problem& p) {
  const auto actual = p.product(k);
  const auto expected = p.product(scalar());
  const auto magnitude = p.magnitudes();
  for (std::size_t i = 0; i < actual.size(); ++i) {
    check::that(close(actual[i], expected[i], 0, 1e-6F * magnitude[i]),
                name_of(k, p) + " [" + std::to_string(i) + "]: " + std::to_string(actual[i]) + ", expected " +
                    std::to_string(expected[i]) + ", sum of magnitudes " + std::to_string(magnitude[i]));
  }
}

bool takes_odd_cols(DType type) { return traits(type).elements == 1; }

}  // namespace

TEST("every type: products of odd shapes equal scalar") {
  for_each_table([](const Kernels& k) {
    Random random(2);
    for (const DType type : all_types()) {
      for (const std::size_t rows : {1, 2, 3, 7, 8, 9, 16, 21}) {
        for (const std::size_t tokens : {1, 2, 3, 4, 5, 33}) {
          const std::size_t block = std::max<std::size_t>(traits(type).elements, takes_odd_cols(type) ? 1 : 32);
          const std::size_t cols = takes_odd_cols(type) ? 1 + random.below(130) : block * (1 + random.below(11));
          check_product(k, Problem(random, type, rows, cols, tokens));
        }
      }
    }
  });
}

TEST("every type: long rows equal scalar") {
  for_each_table([](const Kernels& k) {
    Random random(3);
    for (const DType type : all_types()) check_product(k, Problem(random, type, 5, 8192, 3));
  });
}

TEST("every type: codes at the ends of their range do not overflow") {
  for_each_table([](const Kernels& k) {
    Random random(4);
    for (const DType type : all_types()) {
      for (int i = 0; i < 20; ++i) check_product(k, Problem(random, type, 9, 512, 5, true));
    }
  });
}

TEST("the largest codes of all against activations of one sign") {
  for_each_table([](const Kernels& k) {
    Random random(5);
    for (const DType type : all_types()) {
      if (traits(type).elements == 1) continue;
      for (const int code : {0x00, 0x7F, 0x80, 0xFF}) {
        for (const float x : {1.0F, -1.0F}) {
          Problem p(random, type, 8, 256, 1);
          std::fill(p.w.begin(), p.w.end(), static_cast<std::uint8_t>(code));
          for (std::size_t at = 0; at < p.w.size(); at += traits(type).bytes) put_scales(p.w, at, type, 1.0F, 0.0F);
          std::fill(p.x.begin(), p.x.end(), x);
          p.quantize();
          check_product(k, p);
        }
      }
    }
  });
}

TEST("every type: a product has the same bits however it is cut into calls") {
  for_each_table([](const Kernels& k) {
    Random random(6);
    for (const DType type : all_types()) {
      const Problem p(random, type, 21, takes_odd_cols(type) ? 259 : 768, 37);
      const auto whole = p.product(k);

      std::vector<float> cut(whole.size(), not_a_number);
      for (std::size_t r = 0; r < p.rows; ++r) {
        for (std::size_t t = 0; t < p.tokens; ++t) p.run(k, r, 1, t, 1, cut);
      }
      check::that(same_bits(whole, cut), name_of(k, p) + ": one by one");

      std::fill(cut.begin(), cut.end(), not_a_number);
      for (std::size_t r = 0; r < p.rows;) {
        const std::size_t rows = std::min(1 + random.below(11), p.rows - r);
        for (std::size_t t = 0; t < p.tokens;) {
          const std::size_t tokens = std::min(1 + random.below(9), p.tokens - t);
          p.run(k, r, rows, t, tokens, cut);
          t += tokens;
        }
        r += rows;
      }
      check::that(same_bits(whole, cut), name_of(k, p) + ": in random pieces");
    }
  });
}

TEST("every type: a product writes nothing but its own outputs") {
  for_each_table([](const Kernels& k) {
    Random random(7);
    for (const DType type : all_types()) {
      const Problem p(random, type, 13, 256, 6);
      std::vector<float> out(p.rows * p.tokens, -7.0F);
      p.run(k, 2, 9, 1, 4, out);
      for (std::size_t t = 0; t < p.tokens; ++t) {
        for (std::size_t r = 0; r < p.rows; ++r) {
          const bool inside = r >= 2 && r < 11 && t >= 1 && t < 5;
          check::that(inside == (out[t * p.rows + r] != -7.0F), name_of(k, p));
        }
      }
    }
  });
}

TEST("every type: the first columns of wider rows are a product of their own") {
  for_each_table([](const Kernels& k) {
    Random random(11);
    for (const DType type : all_types()) {
      const Problem wide(random, type, 21, takes_odd_cols(type) ? 259 : 1536, 1);
      for (const std::size_t tokens : {1, 2, 9}) {
        Problem narrow(random, type, wide.rows, takes_odd_cols(type) ? 130 : 768, tokens);
        for (std::size_t r = 0; r < wide.rows; ++r) {
          std::copy_n(wide.w.begin() + r * wide.row_bytes(), narrow.row_bytes(),
                      narrow.w.begin() + r * narrow.row_bytes());
        }
        const auto expected = narrow.product(k);
        std::vector<float> actual(expected.size(), not_a_number);
        kernels_of(k, type).matmul({.weights = wide.w.data(),
                                    .activations = narrow.activations(),
                                    .out = actual.data(),
                                    .row_bytes = wide.row_bytes(),
                                    .rows = wide.rows,
                                    .cols = narrow.cols,
                                    .tokens = tokens,
                                    .out_stride = wide.rows});
        check::that(same_bits(actual, expected), name_of(k, narrow));
      }
    }
  });
}

TEST("every type: rows chosen by their ids are those of the whole product") {
  for_each_table([](const Kernels& k) {
    Random random(12);
    for (const DType type : all_types()) {
      const Problem p(random, type, 40, takes_odd_cols(type) ? 259 : 768, 5);
      const auto whole = p.product(k);
      const std::vector<std::uint32_t> ids{39, 0, 7, 7, 3, 21, 22, 23, 38, 1, 5};
      for (const std::size_t tokens : {1, 3, 5}) {
        std::vector<float> chosen(ids.size() * tokens, not_a_number);
        kernels_of(k, type).matmul({.weights = p.w.data(),
                                    .activations = p.activations(),
                                    .out = chosen.data(),
                                    .row_bytes = p.row_bytes(),
                                    .rows = ids.size(),
                                    .cols = p.cols,
                                    .tokens = tokens,
                                    .out_stride = ids.size(),
                                    .row_ids = ids.data()});
        for (std::size_t t = 0; t < tokens; ++t) {
          for (std::size_t i = 0; i < ids.size(); ++i) {
            check::that(same_bits(chosen[t * ids.size() + i], whole[t * p.rows + ids[i]]), name_of(k, p));
          }
        }
      }
    }
  });
}

TEST("every type: sums of rows equal scalar") {
  for_each_table([](const Kernels& k) {
    Random random(13);
    for (const DType type : all_types()) {
      const std::size_t block = std::max<std::size_t>(traits(type).elements, takes_odd_cols(type) ? 1 : 32);
      for (const std::size_t cols : {block, 3 * block, 4 * block}) {
        const Problem p(random, type, 40, cols, 1);
        for (const std::size_t rows : {0, 1, 11}) {
          std::vector<std::uint32_t> ids(rows);
          for (auto& id : ids) id = static_cast<std::uint32_t>(random.below(p.rows));
          const auto factors = normals(random, rows);
          const auto sums = [&](const Kernels& table, std::vector<float>& out) {
            kernels_of(table, type)
                .combine({.weights = p.w.data(),
                          .row_ids = ids.data(),
                          .factors = factors.data(),
                          .out = out.data(),
                          .row_bytes = p.row_bytes(),
                          .rows = rows,
                          .cols = cols});
          };
          std::vector<float> actual(cols + 1, -7.0F);
          std::vector<float> expected(cols + 1, -7.0F);
          sums(k, actual);
          sums(scalar(), expected);
          std::vector<float> row(cols);
          std::vector<float> magnitude(cols + 1);
          for (std::size_t i = 0; i < rows; ++i) {
            kernels_of(scalar(), type).dequantize(p.w.data() + ids[i] * p.row_bytes(), row.data(), cols);
            for (std::size_t c = 0; c < cols; ++c) magnitude[c] += std::fabs(factors[i] * row[c]);
          }
          for (std::size_t c = 0; c <= cols; ++c) {
            check::that(close(actual[c], expected[c], 0, 1e-6F * magnitude[c]), name_of(k, p) + ": sums of rows");
          }
        }
      }
    }
  });
}

TEST("every type: NaN and infinity in an activation surface in its token and no other") {
  for_each_table([](const Kernels& k) {
    Random random(8);
    for (const DType type : all_types()) {
      for (const float bad : {not_a_number, infinity, -infinity}) {
        Problem p(random, type, 9, 512, 5);
        p.x[2 * p.cols + 300] = bad;
        p.quantize();
        const auto out = p.product(k);
        for (std::size_t t = 0; t < p.tokens; ++t) {
          for (std::size_t r = 0; r < p.rows; ++r) {
            check::that(std::isfinite(out[t * p.rows + r]) == (t != 2), name_of(k, p));
          }
        }
      }
    }
  });
}

TEST("every type: a NaN weight surfaces in its row and no other") {
  for_each_table([](const Kernels& k) {
    Random random(9);
    for (const DType type : all_types()) {
      Problem p(random, type, 9, 512, 5);
      if (!put_nan(p.w, 4 * p.row_bytes(), type)) continue;
      const auto out = p.product(k);
      for (std::size_t i = 0; i < out.size(); ++i) {
        check::that(std::isnan(out[i]) == (i % p.rows == 4), name_of(k, p));
      }
    }
  });
}

TEST("quantised products are near the products of the floats") {
  Random random(10);
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q6_k}) {
    const std::size_t cols = 1024;
    const auto w = normals(random, cols);
    Problem p(random, type, 1, cols, 1);
    find_quantizer(type)(w.data(), p.w.data(), cols);
    double exact = 0;
    for (std::size_t i = 0; i < cols; ++i) exact += static_cast<double>(w[i]) * static_cast<double>(p.x[i]);
    // Independent errors: of a weight (see test_kernels_quantize), of an activation about as large as of a Q8_0 weight.
    const double weight_error = type == DType::q4_0 ? 0.12 : type == DType::q6_k ? 0.03 : 0.008;
    const double deviation = std::sqrt(cols * (weight_error * weight_error + 0.008 * 0.008));
    for_each_table([&](const Kernels& k) {
      check::that(std::fabs(static_cast<double>(p.product(k)[0]) - exact) < 4 * deviation, name_of(k, p));
    });
  }
}

int main() { return check::run_tests(); }
