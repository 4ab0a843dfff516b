#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/python_engine.hpp"
#include "bindings/python_gil.hpp"
#include "engine/engine.hpp"
#include "model/registry.hpp"

// Models that Python computes: exported ones in their runtimes, and architectures of the user's own. The engine treats
// them like any other model, so that sessions, sampling, scheduling and speculation are the same.

namespace py = pybind11;

namespace gemlet {
namespace {

/// A runner's cache (gemlet.exported.runner.Cache).
class RunnerCache final : public Cache {
 public:
  RunnerCache(std::shared_ptr<py::object> held, std::size_t context) : Cache(context), held_(std::move(held)) {}

  const py::object& object() const { return *held_; }
  /// What was computed but not advanced over is forgotten. With the GIL held.
  void drop_unfinished() { held_->attr("truncate")(length()); }

  void prepare(std::size_t) override {}
  bool rewind(std::size_t length) override {
    const WithGil gil;
    held_->attr("truncate")(length);
    set_length(length);
    return true;
  }
  bool can_rewind(std::size_t) const override { return true; }
  std::size_t bytes() const override {
    const WithGil gil;
    return held_->attr("nbytes").cast<std::size_t>();
  }
  std::unique_ptr<Cache> fork() override {
    const WithGil gil;
    auto copy = std::make_unique<RunnerCache>(hold(held_->attr("copy")()), context());
    copy->set_length(length());
    return copy;
  }

 private:
  std::shared_ptr<py::object> held_;
};

/// A runner (gemlet.exported.runner.Runner).
class RunnerModel final : public Model {
 public:
  RunnerModel(std::shared_ptr<py::object> runner, ModelShape shape, Hyperparameters hyperparameters)
      : runner_(std::move(runner)), shape_(std::move(shape)), hyperparameters_(std::move(hyperparameters)) {}

  const ModelShape& shape() const override { return shape_; }
  Hyperparameters hyperparameters() const override { return hyperparameters_; }
  std::size_t step_bytes() const override { return 0; }

  std::unique_ptr<Cache> make_cache(CacheType, std::size_t context, std::size_t) const override {
    const WithGil gil;
    return std::make_unique<RunnerCache>(hold(runner_->attr("empty")()), context);
  }
  std::unique_ptr<Activations> make_activations(const kernels::Kernels& table, ThreadPool& pool) const override {
    return std::make_unique<Activations>(table, pool);
  }

  void forward(std::span<const Segment> segments, Activations&, float* logits, const Cancel* cancel,
               const LayerTrace&) const override {
    const WithGil gil;
    try {
      for (const Segment& segment : segments) {
        if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
          throw Error(Error::Kind::cancelled, "the computation was cancelled");
        }
        logits = run(segment, logits);
      }
    } catch (...) {
      for (const Segment& segment : segments) static_cast<RunnerCache&>(*segment.cache).drop_unfinished();
      throw;
    }
    for (const Segment& segment : segments) segment.cache->advance(segment.tokens.size());
  }

 private:
  /// What stands in for the segment's tokens: (index of the first of them, float32[tokens][hidden]) for each.
  py::list media_in(const Segment& segment) const {
    py::list found;
    const std::size_t first = segment.cache->length();
    for (const Media& media : segment.media) {
      const std::size_t begin = std::max(first, media.begin);
      const std::size_t end = std::min(first + segment.tokens.size(), media.end());
      if (begin >= end) continue;
      py::array_t<float> rows({end - begin, shape_.hidden_size});
      std::copy_n(media.rows->data() + (begin - media.begin) * shape_.hidden_size, rows.size(), rows.mutable_data());
      found.append(py::make_tuple(begin - first, std::move(rows)));
    }
    return found;
  }

  float* run(const Segment& segment, float* logits) const {
    if (segment.adapter != nullptr) {
      throw Error(Error::Kind::unsupported, "exported models take no adapters; use the GGUF file");
    }
    const py::list media = media_in(segment);
    if (!media.empty() && !py::getattr(*runner_, "takes_media", py::bool_(false)).cast<bool>()) {
      throw Error(Error::Kind::unsupported, "this model takes no pictures or sounds; export it with its encoders");
    }
    const auto want = segment.want;
    const std::vector<Token> tokens(segment.tokens.begin(), segment.tokens.end());
    const char* name = want == Segment::Want::all ? "all" : want == Segment::Want::last ? "last" : "none";
    const py::object& cache = static_cast<RunnerCache&>(*segment.cache).object();
    const py::object run = runner_->attr("run");
    const auto found = py::array_t<float, py::array::c_style | py::array::forcecast>(
        media.empty() ? run(cache, tokens, name) : run(cache, tokens, name, media));
    if (want == Segment::Want::none) return logits;
    const std::size_t expected = (want == Segment::Want::all ? tokens.size() : 1) * shape_.vocab_size;
    if (static_cast<std::size_t>(found.size()) != expected) {
      throw Error(Error::Kind::format,
                  "the model gave " + std::to_string(found.size()) + " logits, expected " + std::to_string(expected));
    }
    return std::copy_n(found.data(), expected, logits);
  }

  std::shared_ptr<py::object> runner_;
  ModelShape shape_;
  Hyperparameters hyperparameters_;
};

template <typename T>
T field(const py::dict& from, const char* name) {
  if (!from.contains(name)) throw Error(Error::Kind::argument, std::string(name) + " is missing");
  return from[name].cast<T>();
}

ModelInfo info_of(const py::dict& from) {
  ModelInfo info;
  info.architecture = field<std::string>(from, "architecture");
  info.name = field<std::string>(from, "name");
  info.chat_template = field<std::string>(from, "chat_template");
  info.vocabulary = field<int>(from, "vocabulary");
  info.hidden_size = field<int>(from, "hidden_size");
  info.layers = field<int>(from, "layers");
  info.file_layers = field<int>(from, "file_layers");
  info.trained_context = field<int>(from, "trained_context");
  for (const py::handle& entry : field<py::list>(from, "layer_info")) {
    const auto layer = entry.cast<py::dict>();
    info.layer_info.push_back({.index = field<int>(layer, "index"),
                               .kv_source = field<int>(layer, "kv_source"),
                               .kv_heads = field<int>(layer, "kv_heads"),
                               .head_dim = field<int>(layer, "head_dim"),
                               .window = field<int>(layer, "window"),
                               .intermediate_size = field<int>(layer, "intermediate_size")});
  }
  info.hyperparameters = field<Hyperparameters>(from, "hyperparameters");
  info.kernels = field<std::string>(from, "kernels");
  info.threads = field<int>(from, "threads");
  info.file_bytes = field<std::size_t>(from, "file_bytes");
  if (from.contains("encoder_bytes")) info.encoder_bytes = field<std::size_t>(from, "encoder_bytes");
  info.fingerprint = field<std::uint64_t>(from, "fingerprint");
  for (const py::handle& entry : field<py::list>(from, "tensors")) {
    const auto tensor = entry.cast<py::dict>();
    info.tensors.push_back({.name = field<std::string>(tensor, "name"),
                            .type = field<std::string>(tensor, "type"),
                            .shape = field<std::vector<std::int64_t>>(tensor, "shape"),
                            .bytes = field<std::size_t>(tensor, "bytes"),
                            .on_flash = field<bool>(tensor, "on_flash")});
  }
  return info;
}

ModelShape shape_of(const py::dict& from) {
  const auto number = [&](const char* name) { return static_cast<std::size_t>(field<std::uint32_t>(from, name)); };
  ModelShape shape;
  shape.vocab_size = number("vocabulary");
  shape.hidden_size = number("hidden_size");
  shape.max_position_embeddings = number("trained_context");
  shape.file_layers = number("layers");
  for (std::size_t i = 0; i < shape.file_layers; ++i) shape.layers.push_back({.file_index = i, .kv_source = i});
  return shape;
}

/// The shape with that of its layers, where it is given: runners keep the keys and values, so it matters only to those
/// who describe or export the model.
ModelShape shape_with_layers(const py::dict& from) {
  ModelShape shape = shape_of(from);
  if (!from.contains("layer_info")) return shape;
  const auto described = field<std::vector<py::dict>>(from, "layer_info");
  if (described.size() != shape.file_layers) {
    throw Error(Error::Kind::argument, "layer_info has " + std::to_string(described.size()) +
                                           " entries, expected one for each of the " +
                                           std::to_string(shape.file_layers) + " layers");
  }
  for (std::size_t i = 0; i < described.size(); ++i) {
    const auto number_of = [&](const char* name) {
      return static_cast<std::size_t>(field<std::uint32_t>(described[i], name));
    };
    shape.layers[i].kv_source = number_of("kv_source");
    shape.layers[i].kv_heads = number_of("kv_heads");
    shape.layers[i].head_dim = number_of("head_dim");
    shape.layers[i].window = number_of("window");
    shape.layers[i].intermediate_size = number_of("intermediate_size");
  }
  return shape;
}

PyEngine make_engine(const std::filesystem::path& tokenizer, py::object runner, const py::dict& info, int context,
                     int chunk) {
  ModelInfo description = info_of(info);
  EngineOptions options;
  options.threads = 1;  // the runner has threads of its own
  options.context = context;
  options.chunk = chunk;
  auto model =
      std::make_shared<const RunnerModel>(hold(std::move(runner)), shape_of(info), description.hyperparameters);
  auto impl = std::make_unique<Engine::Impl>(tokenizer, std::move(model), std::move(description), options);
  return {Engine::Impl::wrap(std::move(impl))};
}

void add_architecture(const std::string& name, py::function factory) {
  register_architecture(name, [factory = hold(std::move(factory))](const GgufFile& file, std::size_t tokens) {
    const WithGil gil;
    const auto made = (*factory)(file.path(), tokens).cast<std::pair<py::object, py::dict>>();
    return std::make_unique<const RunnerModel>(hold(made.first), shape_with_layers(made.second),
                                               field<Hyperparameters>(made.second, "hyperparameters"));
  });
}

}  // namespace

void bind_runner(py::module_& m) {
  m.def("engine_of_runner", &make_engine, py::arg("tokenizer"), py::arg("runner"), py::arg("info"), py::kw_only(),
        py::arg("context"), py::arg("chunk"), "An engine whose logits a Python object computes.");
  m.def(
      "register_architecture", &add_architecture, py::arg("name"), py::arg("factory"),
      "GGUF files of this architecture are computed by what `factory(path, tokens)` returns: a runner, and a dict with "
      "vocabulary, hidden_size, layers, trained_context and hyperparameters, and layer_info if it is to be exported.");
  m.def("architectures", &architectures, "The names of all architectures.");
}

}  // namespace gemlet
