#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/python_gil.hpp"
#include "bindings/python_module.hpp"
#include "gemlet/error.hpp"
#include "kernels/kernels.hpp"
#include "tensor/thread_pool.hpp"

// The converter's inner loop: rows of weights to a stored type and back.

namespace gemlet {
namespace {

namespace py = pybind11;

[[noreturn]] void fail(const std::string& what) { throw Error(Error::Kind::argument, what); }

DType dtype_named(const std::string& name) {
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; };
  for (std::uint32_t id = 0; id < dtype_table_size; ++id) {
    const DTypeTraits* found = find_dtype(id);
    if (found == nullptr) continue;
    const std::string_view known = found->name;
    if (std::equal(known.begin(), known.end(), name.begin(), name.end(), same)) return static_cast<DType>(id);
  }
  fail("there is no storage type \"" + name + "\"");
}

/// The type that a numpy array holds. bfloat16 has no numpy type: its bits come as uint16.
DType dtype_of(const py::array& rows) {
  const py::dtype type = rows.dtype();
  if (type.kind() == 'f' && type.itemsize() == 4) return DType::f32;
  if (type.kind() == 'f' && type.itemsize() == 2) return DType::f16;
  if (type.kind() == 'u' && type.itemsize() == 2) return DType::bf16;
  fail("rows are " + py::str(type).cast<std::string>() +
       ", expected float32, float16 or uint16 (the bits of bfloat16)");
}

void require_matrix(const py::array& array, const char* name) {
  if (array.ndim() != 2 || (array.flags() & py::array::c_style) == 0) {
    fail(std::string(name) + " must be a contiguous matrix");
  }
}

/// The greatest magnitude that a type holds with certainty: scales of quantised blocks are half precision.
float limit(DType type) { return type == DType::f32 || type == DType::bf16 ? INFINITY : 65504.0F; }

py::array_t<std::uint8_t> quantize(const py::array& rows, const std::string& type_name, int threads) {
  require_matrix(rows, "rows");
  const DType source = dtype_of(rows);
  const DType target = dtype_named(type_name);
  const kernels::QuantizeFn encode = kernels::find_quantizer(target);
  if (encode == nullptr) fail("gemlet reads " + type_name + " but does not write it");

  const auto count = static_cast<std::size_t>(rows.shape(0));
  const auto cols = static_cast<std::size_t>(rows.shape(1));
  const DTypeTraits& layout = traits(target);
  if (cols % layout.elements != 0) {
    fail("rows of " + std::to_string(cols) + " values are not whole blocks of " + std::to_string(layout.elements));
  }
  const std::size_t in_bytes = cols / traits(source).elements * traits(source).bytes;
  const std::size_t out_bytes = cols / layout.elements * layout.bytes;
  py::array_t<std::uint8_t> out({count, out_bytes});
  const auto* in = static_cast<const std::uint8_t*>(rows.data());
  std::uint8_t* to = out.mutable_data();
  const auto decode = kernels::best().weights[static_cast<std::size_t>(source)].dequantize;
  const float most = limit(target);

  std::atomic<std::size_t> bad_row{count};
  {
    const WithoutGil without_gil;
    ThreadPool pool(std::max(1, threads));
    std::vector<std::vector<float>> scratch(static_cast<std::size_t>(pool.threads()), std::vector<float>(cols));
    const std::size_t chunk = std::max<std::size_t>(1, (std::size_t{1} << 16) / std::max<std::size_t>(1, cols));
    pool.parallel_for(count, chunk, [&](std::size_t begin, std::size_t end, int thread) {
      float* values = scratch[static_cast<std::size_t>(thread)].data();
      for (std::size_t row = begin; row < end; ++row) {
        decode(in + row * in_bytes, values, cols);
        // Written so that NaN fails too.
        const bool fits = std::all_of(values, values + cols, [most](float v) { return std::fabs(v) <= most; }) &&
                          std::none_of(values, values + cols, [](float v) { return std::isinf(v); });
        if (!fits) {
          for (std::size_t first = bad_row; row < first && !bad_row.compare_exchange_weak(first, row);) {
          }
          continue;
        }
        encode(values, to + row * out_bytes, cols);
      }
    });
  }
  if (bad_row < count) {
    std::vector<float> values(cols);
    decode(in + bad_row * in_bytes, values.data(), cols);
    const auto at = std::find_if(values.begin(), values.end(),
                                 [most](float v) { return !(std::fabs(v) <= most) || std::isinf(v); });
    fail("row " + std::to_string(bad_row) + ", column " + std::to_string(at - values.begin()) + " is " +
         std::to_string(*at) + ", which " + type_name + " cannot hold");
  }
  return out;
}

py::array_t<float> dequantize(const py::array_t<std::uint8_t, 0>& rows, const std::string& type_name,
                              std::size_t cols) {
  require_matrix(rows, "rows");
  const DType type = dtype_named(type_name);
  const DTypeTraits& layout = traits(type);
  const auto count = static_cast<std::size_t>(rows.shape(0));
  const auto row_bytes = static_cast<std::size_t>(rows.shape(1));
  if (cols % layout.elements != 0 || row_bytes != cols / layout.elements * layout.bytes) {
    fail("rows of " + std::to_string(row_bytes) + " bytes do not hold " + std::to_string(cols) + " values of " +
         type_name);
  }
  py::array_t<float> out({count, cols});
  float* to = out.mutable_data();
  const std::uint8_t* from = rows.data();
  const auto decode = kernels::scalar().weights[static_cast<std::size_t>(type)].dequantize;
  const WithoutGil without_gil;
  for (std::size_t row = 0; row < count; ++row) decode(from + row * row_bytes, to + row * cols, cols);
  return out;
}

}  // namespace

/// Defined here, declared in python.cpp.
void bind_quantize(py::module_& m) {
  m.def("quantize", &quantize, py::arg("rows"), py::arg("type"), py::arg("threads") = 1,
        "Rows of float32, float16 or uint16 (bfloat16 bits) to rows of bytes in a storage type.\n\n"
        "Raises ArgumentError for a value that is not finite or does not fit, naming its place.");
  m.def("dequantize", &dequantize, py::arg("rows"), py::arg("type"), py::arg("cols"),
        "Rows of bytes in a storage type to rows of `cols` float32 values.");
}

}  // namespace gemlet
