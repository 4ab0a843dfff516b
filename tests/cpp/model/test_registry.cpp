#include <string>
#include <vector>

#include "check.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "model/registry.hpp"
#include "tiny_model.hpp"

// An architecture that gemlet does not know registers itself, and is loaded, prefilled, sampled, batched and forked by
// the same engine as any other.

using namespace gemlet;

namespace {

/// After token t comes t + 1, whatever stood before.
class Counting final : public Model {
 public:
  explicit Counting(std::size_t tokens) {
    shape_.vocab_size = tokens;
    shape_.hidden_size = 1;
    shape_.num_attention_heads = 1;
    shape_.max_position_embeddings = 100;
    shape_.file_layers = 1;
    shape_.layers.push_back({.kv_heads = 1, .head_dim = 2, .window = 3});
  }

  const ModelShape& shape() const override { return shape_; }
  Hyperparameters hyperparameters() const override { return {{"step", std::int64_t{1}}}; }
  std::unique_ptr<Activations> make_activations(const kernels::Kernels& table, ThreadPool& pool) const override {
    return std::make_unique<Activations>(table, pool);
  }
  std::size_t step_bytes() const override { return 0; }
  void forward(std::span<const Segment> segments, Activations&, float* logits, const Cancel*,
               const LayerTrace&) const override {
    for (const Segment& segment : segments) {
      segment.cache->prepare(segment.tokens.size());
      for (std::size_t i = 0; i < segment.tokens.size(); ++i) {
        const bool last = i + 1 == segment.tokens.size();
        if (segment.want == Segment::Want::none || (segment.want == Segment::Want::last && !last)) continue;
        for (std::size_t t = 0; t < shape_.vocab_size; ++t) {
          *logits++ = static_cast<Token>(t) == segment.tokens[i] + 1 ? 10.0F : 0.0F;
        }
      }
      segment.cache->advance(segment.tokens.size());
    }
  }

 private:
  ModelShape shape_;
};

std::filesystem::path file(const gguf::TemporaryDirectory& directory, const char* architecture) {
  gguf::Builder builder;
  builder.add_string("general.architecture", architecture);
  tiny::add_tokenizer(builder);
  builder.add_floats("anything.weight", {4}, {1, 2, 3, 4});
  return directory.write(std::string(architecture) + ".gguf", builder.build().bytes);
}

}  // namespace

TEST("an architecture of one's own runs like any other once it has registered itself") {
  const gguf::TemporaryDirectory directory;
  const auto path = file(directory, "counting");
  std::string known;
  for (const std::string& name : architectures()) known += (known.empty() ? "" : ", ") + name;
  CHECK(known.find("gemma3, gemma3n") != std::string::npos);
  CHECK_THROWS(Engine::load(path), Error::Kind::unsupported, "architecture is \"counting\", gemlet runs " + known);
  register_architecture("counting", [](const GgufFile&, std::size_t tokens) -> std::unique_ptr<const Model> {
    return std::make_unique<const Counting>(tokens);
  });
  const auto engine = Engine::load(path);
  CHECK(std::get<std::int64_t>(engine->info().hyperparameters.at("step")) == 1);

  GenerateOptions options;
  options.max_tokens = 5;
  options.sampling.temperature = 0;
  Session session(engine);
  const std::vector<Token> prompt = {2, 280};
  const GenerateResult result = generate(session, prompt, options);
  CHECK(result.tokens == std::vector<Token>({281, 282, 283, 284, 285}));
  const std::vector<std::vector<Token>> prompts = {{2, 270}, {2, 290, 280}};
  const auto both = generate_batch(engine, prompts, std::vector<GenerateOptions>(2, options));
  CHECK(both[0].tokens.front() == 271 && both[1].tokens.back() == 285);
  options.speculate = Speculate::slice;
  CHECK_THROWS(generate(session, prompt, options), Error::Kind::argument, "MatFormer");
}

int main() { return check::run_tests(); }
