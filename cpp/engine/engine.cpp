#include "engine/engine.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

#include "engine/cpu.hpp"

namespace gemlet {
namespace {

constexpr int default_context = 8192;
constexpr int most_threads = 256;
constexpr int most_chunk = 4096;

int in_range(const char* name, int value, int low, int high) {
  if (value < low || value > high) {
    throw Error(Error::Kind::argument, std::string(name) + " is " + std::to_string(value) + ", expected " +
                                           std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

bool is_slice(const Gemma3n& model) {
  const std::vector<LayerConfig>& layers = model.config().layers;
  return layers.size() < model.config().file_layers ||
         std::any_of(
             layers.begin(), layers.end(),
             [&](const LayerConfig& layer) {
               return layer.intermediate_size < model.weights().layers[layer.index].gate_proj.rows;
             });
}

// A slice is another model, whose keys and values are not those of the whole.
std::uint64_t fingerprint(const GgufFile& file, const Gemma3n& model) {
  std::uint64_t hash = fingerprint(file);
  if (is_slice(model)) {
    for (const LayerConfig& layer : model.config().layers) {
      const std::uint64_t kept[] = {layer.index, layer.intermediate_size};
      hash = mix_fingerprint(hash, reinterpret_cast<const std::byte*>(kept), sizeof(kept));
    }
  }
  return hash;
}

EngineOptions with_defaults(EngineOptions options) {
  if (options.threads == 0) options.threads = std::min(usable_cores(), most_threads);
  in_range("threads", options.threads, 1, most_threads);
  in_range("chunk", options.chunk, 1, most_chunk);
  return options;
}

// What the model's slice uses of a tensor; nothing of one that belongs to a dropped layer.
std::optional<Tensor> used_part(Tensor tensor, const Gemma3nConfig& config) {
  constexpr std::string_view layers = "blk.";
  if (!tensor.name.starts_with(layers)) return tensor;
  const std::string_view rest = std::string_view(tensor.name).substr(layers.size());
  const std::size_t dot = std::min(rest.find('.'), rest.size());
  const std::string_view part = rest.substr(dot);
  for (const LayerConfig& layer : config.layers) {
    if (rest.substr(0, dot) != std::to_string(layer.index)) continue;
    const auto width = static_cast<std::int64_t>(layer.intermediate_size);
    if (part == ".ffn_gate.weight" || part == ".ffn_up.weight" || part == ".ffn_down_t.weight") tensor.shape[0] = width;
    if (part == ".ffn_down.weight") tensor.shape[1] = width;
    return tensor;
  }
  return std::nullopt;
}

ModelInfo describe(const Engine::Impl& engine, const GgufFile& file, const Gemma3nConfig& config) {
  ModelInfo info;
  info.architecture = file.get_string("general.architecture");
  info.name = file.find_string("general.name", "");
  info.chat_template = file.find_string("tokenizer.chat_template", "");
  info.vocabulary = static_cast<int>(config.vocab_size);
  info.hidden_size = static_cast<int>(config.hidden_size);
  info.layers = static_cast<int>(config.layers.size());
  info.file_layers = static_cast<int>(config.file_layers);
  info.trained_context = static_cast<int>(config.max_position_embeddings);
  info.heads = static_cast<int>(config.num_attention_heads);
  info.kv_heads = static_cast<int>(config.num_key_value_heads);
  info.head_dim = static_cast<int>(config.head_dim);
  info.sliding_window = static_cast<int>(config.sliding_window);
  info.kv_shared_layers = static_cast<int>(config.num_kv_shared_layers);
  info.hidden_size_per_layer_input = static_cast<int>(config.hidden_size_per_layer_input);
  for (const LayerConfig& layer : config.layers) {
    info.layer_index.push_back(static_cast<int>(layer.index));
    info.intermediate_size.push_back(static_cast<int>(layer.intermediate_size));
    info.sliding.push_back(layer.sliding);
    info.activation_sparsity.push_back(layer.sparse ? layer.sparsity_scale : -std::numeric_limits<float>::infinity());
  }
  info.kernels = engine.kernels.name;
  info.threads = engine.options.threads;
  info.context = engine.options.context;
  info.file_bytes = file.file_bytes();
  info.fingerprint = fingerprint(file, engine.model);
  for (const Tensor& stored : file.tensors()) {
    const std::optional<Tensor> tensor = used_part(stored, config);
    if (!tensor) continue;
    info.tensors.push_back({.name = tensor->name,
                            .type = traits(tensor->type).name,
                            .shape = {tensor->shape.begin(), tensor->shape.begin() + tensor->rank},
                            .bytes = tensor->bytes(),
                            .on_flash = engine.model.weights().embed_tokens_per_layer.is(*tensor)});
  }
  return info;
}

}  // namespace

Engine::Impl::Impl(const std::filesystem::path& path, const EngineOptions& requested)
    : options(with_defaults(requested)),
      file(path),
      model(Gemma3n(file).sliced(options.slice)),
      tokenizer(file),
      kernels(choose_kernels(options.isa)),
      pool_(options.threads) {
  const auto trained = static_cast<int>(model.config().max_position_embeddings);
  if (options.context == 0) options.context = std::min(default_context, trained);
  in_range("context", options.context, 1, trained);
  if (tokenizer.vocabulary() != static_cast<int>(model.config().vocab_size)) {
    throw Error(Error::Kind::format, path.string() + ": the tokenizer has " + std::to_string(tokenizer.vocabulary()) +
                                         " tokens, token_embd.weight has " + std::to_string(model.config().vocab_size) +
                                         " rows");
  }
  info = describe(*this, file, model.config());
}

Engine::Impl::StateLease::StateLease(const Impl& engine) : engine_(engine) {
  {
    const std::lock_guard lock(engine.mutex_);
    if (!engine.idle_.empty()) {
      state_ = std::move(engine.idle_.back());
      engine.idle_.pop_back();
    }
  }
  if (state_ == nullptr) state_ = std::make_unique<State>(engine.model.config(), engine.kernels, engine.pool_);
}

Engine::Impl::StateLease::~StateLease() {
  const std::lock_guard lock(engine_.mutex_);
  engine_.work_ += state_->compute.take_work();
  engine_.idle_.push_back(std::move(state_));
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
  std::shared_ptr<Engine> engine(new Engine);
  engine->impl_ = std::make_unique<Impl>(path, options);
  return engine;
}

const ModelInfo& Engine::info() const { return impl_->info; }
Work Engine::work() const { return impl_->work(); }

std::vector<Token> Engine::tokenize(std::string_view text, bool bos, bool special) const {
  return impl_->tokenizer.encode(text, bos, special);
}

std::string Engine::detokenize(std::span<const Token> tokens, bool special) const {
  return impl_->tokenizer.decode(tokens, special);
}

std::string Engine::piece(Token token) const { return std::string(impl_->tokenizer.piece(token)); }
TokenKind Engine::kind(Token token) const { return impl_->tokenizer.kind(token); }
std::optional<Token> Engine::find_token(std::string_view piece) const { return impl_->tokenizer.find(piece); }
Token Engine::bos() const { return impl_->tokenizer.bos(); }
bool Engine::is_end(Token token) const { return impl_->tokenizer.is_end(token); }

}  // namespace gemlet
