#include "engine/engine.hpp"

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "engine/cpu.hpp"
#include "model/registry.hpp"
#include "text/turns.hpp"

namespace gemlet {
namespace {

constexpr int default_context = 8192;
constexpr int max_chunk = 4096;

int in_range(const char* name, int value, int low, int high) {
  if (value < low || value > high) {
    throw Error(Error::Kind::argument, std::string(name) + " is " + std::to_string(value) + ", expected " +
                                           std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

// A slice is another model, whose keys and values are not those of the whole.
std::uint64_t fingerprint(const GgufFile& file, const ModelShape& shape, bool is_slice) {
  std::uint64_t hash = fingerprint(file);
  if (is_slice) {
    for (const LayerShape& layer : shape.layers) {
      const std::uint64_t kept[] = {layer.file_index, layer.intermediate_size};
      hash = mix_fingerprint(hash, reinterpret_cast<const std::byte*>(kept), sizeof(kept));
    }
  }
  return hash;
}

EngineOptions with_defaults(EngineOptions options) {
  options.threads = choose_threads(options.threads);
  in_range("chunk", options.chunk, 1, max_chunk);
  return options;
}

const GgufFile& of_known_architecture(const GgufFile& file) {
  require_architecture(file);
  return file;
}

/// Throws Error(argument), naming the turn, for a medium of another model's encoders.
void check_media(std::span<const Turn> turns, std::size_t hidden_size) {
  for (std::size_t i = 0; i < turns.size(); ++i) {
    for (const TurnPart& part : turns[i].parts) {
      const Medium* medium = part.medium.get();
      if (medium == nullptr || medium->rows == nullptr || medium->count == 0) continue;
      if (medium->rows->size() == medium->count * hidden_size) continue;
      throw Error(Error::Kind::argument, "turn " + std::to_string(i) + ": a picture or a sound has embeddings of " +
                                             std::to_string(medium->rows->size() / medium->count) +
                                             " numbers, expected " + std::to_string(hidden_size) +
                                             ", the model's hidden size: its encoders are another model's");
    }
  }
}

ModelInfo describe(const GgufFile& file, const Model& model, bool is_slice) {
  const ModelShape& shape = model.shape();
  ModelInfo info;
  info.architecture = file.get_string("general.architecture");
  info.name = file.find_string("general.name", "");
  info.chat_template = file.find_string("tokenizer.chat_template", "");
  info.vocabulary = static_cast<int>(shape.vocab_size);
  info.hidden_size = static_cast<int>(shape.hidden_size);
  info.layers = static_cast<int>(shape.layers.size());
  info.file_layers = static_cast<int>(shape.file_layers);
  info.trained_context = static_cast<int>(shape.max_position_embeddings);
  for (const LayerShape& layer : shape.layers) {
    const auto number = [](std::size_t n) { return static_cast<int>(n); };
    info.layer_info.push_back({.index = number(layer.file_index),
                               .kv_source = number(layer.kv_source),
                               .kv_heads = number(layer.kv_heads),
                               .head_dim = number(layer.head_dim),
                               .window = number(layer.window),
                               .intermediate_size = number(layer.intermediate_size)});
  }
  info.hyperparameters = model.hyperparameters();
  info.file_bytes = file.file_bytes();
  info.fingerprint = fingerprint(file, shape, is_slice);
  for (const Tensor& stored : file.tensors()) {
    if (is_of_encoder(stored)) {
      info.encoder_bytes += stored.bytes();
      continue;
    }
    const std::optional<Tensor> tensor = model.used_part(stored);
    if (!tensor) continue;
    info.tensors.push_back({.name = tensor->name,
                            .type = traits(tensor->type).name,
                            .shape = {tensor->shape.begin(), tensor->shape.begin() + tensor->rank},
                            .bytes = tensor->bytes(),
                            .on_flash = model.on_flash(*tensor)});
  }
  return info;
}

}  // namespace

Engine::Impl::Impl(const std::filesystem::path& path, const EngineOptions& requested)
    : options(with_defaults(requested)),
      file(path),
      tokenizer(read_intact(file, [this] { return Tokenizer(of_known_architecture(file)); })),
      model(read_intact(file, [this] { return load_model(file, static_cast<std::size_t>(tokenizer.vocabulary())); })),
      kernels(choose_kernels(options.kernels)),
      pool_(options.threads) {
  const std::shared_ptr<const Model> whole = model;
  if (options.slice != Slice()) model = whole->sliced(options.slice);
  check_model();
  info = describe(file, *model, model->shape().layers != whole->shape().layers);
  file.check_unchanged();  // while it was read
  info.kernels = kernels.name;
  info.threads = options.threads;
  info.context = options.context;
}

Engine::Impl::Impl(const std::filesystem::path& tokenizer_path, std::shared_ptr<const Model> made,
                   ModelInfo description, const EngineOptions& requested)
    : options(with_defaults(requested)),
      file(tokenizer_path),
      tokenizer(read_intact(file, [this] { return Tokenizer(file); })),
      model(std::move(made)),
      kernels(choose_kernels(options.kernels)),
      info(std::move(description)),
      pool_(options.threads) {
  check_model();
  info.context = options.context;
}

std::vector<std::filesystem::path> Engine::Impl::files() const {
  std::vector<std::filesystem::path> paths;
  for (const GgufPart& part : file.parts()) paths.push_back(part.file.path());
  return paths;
}

void Engine::Impl::check_model() {
  if (static_cast<std::size_t>(tokenizer.vocabulary()) < vocabulary()) {
    throw Error(Error::Kind::format, file.path().string() + ": has " + std::to_string(tokenizer.vocabulary()) +
                                         " tokens, the model " + std::to_string(vocabulary()));
  }
  const auto trained = static_cast<int>(model->shape().max_position_embeddings);
  if (options.context == 0) options.context = std::min(default_context, trained);
  in_range("context", options.context, 1, trained);
}

std::shared_ptr<const Engine> Engine::Impl::wrap(std::unique_ptr<Impl> impl) {
  std::shared_ptr<Engine> engine(new Engine);
  engine->impl_ = std::move(impl);
  return engine;
}

Engine::Impl::ActivationsLease::ActivationsLease(const Impl& engine) : engine_(engine) {
  {
    const std::lock_guard lock(engine.mutex_);
    if (!engine.idle_.empty()) {
      activations_ = std::move(engine.idle_.back());
      engine.idle_.pop_back();
    }
  }
  if (activations_ == nullptr) activations_ = engine.model->make_activations(engine.kernels, engine.pool_);
}

Engine::Impl::ActivationsLease::~ActivationsLease() {
  const std::lock_guard lock(engine_.mutex_);
  engine_.work_ += activations_->compute.take_work();
  engine_.idle_.push_back(std::move(activations_));
}

CacheType parse_cache_type(std::string_view name) {
  if (name == "f16") return CacheType::f16;
  if (name == "f32") return CacheType::f32;
  if (name == "int8") return CacheType::int8;
  throw Error(Error::Kind::argument,
              "cache: expected \"f16\", \"f32\" or \"int8\", found \"" + std::string(name) + "\"");
}

Work Engine::Impl::work() const {
  const std::lock_guard lock(mutex_);
  return work_;
}

Engine::Engine() = default;
Engine::~Engine() = default;

std::shared_ptr<const Engine> Engine::load(const std::filesystem::path& path, const EngineOptions& options) {
  return Impl::wrap(std::make_unique<Impl>(path, options));
}

std::shared_ptr<const Adapter> Engine::make_adapter(std::span<const AdapterUpdate> updates) const {
  return std::make_shared<const Adapter>(shared_from_this(), updates, [&](std::string_view name) -> const Tensor* {
    const Tensor* tensor = impl_->file.find_tensor(name);
    return tensor != nullptr && impl_->model->adaptable(*tensor) ? tensor : nullptr;
  });
}

const ModelInfo& Engine::info() const { return impl_->info; }
Work Engine::work() const { return impl_->work(); }

std::vector<Token> Engine::tokenize(std::string_view text, bool bos, bool special) const {
  return impl_->tokenizer.encode(text, bos, special);
}

std::string Engine::detokenize(std::span<const Token> tokens, bool special) const {
  return impl_->tokenizer.decode(tokens, special);
}

Prompt Engine::prompt(std::span<const Turn> turns, const PromptOptions& options) const {
  check_media(turns, impl_->model->shape().hidden_size);
  return prompt_of_turns(impl_->tokenizer, turns, options);
}

std::string Engine::piece(Token token) const { return std::string(impl_->tokenizer.piece(token)); }
TokenKind Engine::kind(Token token) const { return impl_->tokenizer.kind(token); }
std::optional<Token> Engine::find_token(std::string_view piece) const { return impl_->tokenizer.find(piece); }
Token Engine::bos() const { return impl_->tokenizer.bos(); }
bool Engine::is_end(Token token) const { return impl_->tokenizer.is_end(token); }

}  // namespace gemlet
