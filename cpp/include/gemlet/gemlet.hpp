#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gemlet/error.hpp"

/// gemlet's C++ interface. An `Engine` is a loaded model: immutable, shared by threads. A `Session` is one timeline of
/// tokens: used by one thread at a time. Every failure is an `Error`.
namespace gemlet {

using Token = std::int32_t;

/// How keys and values are kept. int8: a scale for each position and head; half the memory of f16.
enum class CacheType { f16, f32, int8 };

/// Of "f16", "f32" or "int8"; throws Error(argument) for another.
CacheType parse_cache_type(std::string_view name);

/// A part of a MatFormer model (arXiv:2310.07707) that is a smaller model: the first so many units of each feed-forward
/// layer, without some of the layers. The default is the whole.
struct Slice {
  double ffn_share = 1;               ///< of each layer's feed-forward width
  std::vector<int> ffn_widths{};      ///< instead: one for all layers, or one for each layer that is kept
  std::vector<int> dropped_layers{};  ///< by their numbers in the file
  int of_layers = 0;                  ///< a slice of a model that has just so many layers; 0: of any

  /// "e2b" (the published one of E4B), a share of the width ("0.5"), a width ("8192"), or widths and layers:
  /// "ffn=8192x25,16384x5:drop=20-24". Throws Error(argument).
  static Slice parse(std::string_view text);
};

struct EngineOptions {
  int threads = 0;  ///< 0: one for each physical core, within the process's quota
  int context = 0;  ///< tokens a session holds; 0: the smaller of 8192 and what the model was trained for
  int chunk = 256;  ///< prompt tokens computed at a time: more is faster and takes more memory
  CacheType cache = CacheType::f16;
  Slice slice{};      ///< of the file's model: views on the mapped weights, nothing is copied
  std::string isa{};  ///< a kernel table by name ("scalar", "avx2", ...); empty: the best this CPU runs
};

struct TensorInfo {
  std::string name;
  std::string type;                 ///< "Q4_0"
  std::vector<std::int64_t> shape;  ///< outermost first
  std::size_t bytes = 0;
  bool on_flash = false;  ///< read row by row from the file, never resident as a whole
};

/// What `gemlet inspect` shows. The vectors have one entry a layer.
struct ModelInfo {
  std::string architecture;  ///< "gemma3n"
  std::string name;
  std::string chat_template;  ///< Jinja, empty if the file has none
  int vocabulary = 0;
  int hidden_size = 0;
  int layers = 0;
  int file_layers = 0;  ///< more than `layers` where a slice drops some
  int trained_context = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int sliding_window = 0;
  int kv_shared_layers = 0;
  int hidden_size_per_layer_input = 0;
  std::vector<int> layer_index;  ///< of each layer in the file
  std::vector<int> intermediate_size;
  std::vector<bool> sliding;  ///< false: full attention
  /// icdf(sparsity): gate values this many standard deviations above their mean survive; minus infinity: dense.
  std::vector<float> activation_sparsity;
  std::string kernels;  ///< the kernel table in use
  int threads = 0;
  int context = 0;
  std::size_t file_bytes = 0;
  std::uint64_t fingerprint = 0;  ///< of the weights and the configuration; saved sessions carry it
  std::vector<TensorInfo> tensors;
};

/// What the forward passes of an engine have done since it was loaded.
struct Work {
  std::uint64_t weight_bytes = 0;   ///< of weight matrices streamed from memory, once for each product
  std::uint64_t multiply_adds = 0;  ///< of weights with activations
  std::uint64_t barriers = 0;       ///< parallel loops: at the end of each the threads wait for one another

  Work& operator+=(const Work& other) {
    weight_bytes += other.weight_bytes;
    multiply_adds += other.multiply_adds;
    barriers += other.barriers;
    return *this;
  }
};

enum class TokenKind { normal, unknown, control, user_defined, unused, byte };

/// Set from any thread to stop a running call, which then throws Error(cancelled) and leaves the session as it was
/// before the call.
using Cancel = std::atomic<bool>;

class Engine {
 public:
  static std::shared_ptr<const Engine> load(const std::filesystem::path& path, const EngineOptions& options = {});
  ~Engine();

  const ModelInfo& info() const;
  Work work() const;

  /// Bytes that are not UTF-8 become U+FFFD, one each, as in
  /// sentencepiece. `special`: text like "<start_of_turn>" becomes its control token;
  /// otherwise it is plain text. `bos` puts the begin-of-sequence token first.
  std::vector<Token> tokenize(std::string_view text, bool bos = false, bool special = true) const;
  /// The bytes that the tokens stand for; control tokens are left out unless `special`. Throws for an id outside the
  /// vocabulary.
  std::string detokenize(std::span<const Token> tokens, bool special = false) const;
  std::string piece(Token token) const;  ///< as the file stores it
  TokenKind kind(Token token) const;
  std::optional<Token> find_token(std::string_view piece) const;
  Token bos() const;
  bool is_end(Token token) const;  ///< end of sequence or end of turn

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  Engine();
  std::unique_ptr<Impl> impl_;
};

/// Which positions of a prefill need logits.
enum class Logits { last, all };

class Session {
 public:
  /// `context` 0: the engine's. Memory is taken as the session grows.
  explicit Session(std::shared_ptr<const Engine> engine, int context = 0);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  const Engine& engine() const;
  int context() const;
  int position() const;  ///< tokens held
  std::span<const Token> tokens() const;

  /// Appends tokens. Throws Error(context), naming both lengths, when they do not fit, and Error(argument) for none or
  /// an id outside the vocabulary; nothing has changed then. Returns logits: float[vocabulary] of the last token, or
  /// float[tokens.size()][vocabulary]; valid until the next call on this session.
  std::span<const float> prefill(std::span<const Token> tokens, Logits logits = Logits::last,
                                 const Cancel* cancel = nullptr);

  /// One token for each of several distinct sessions of one engine, computed together; logits(i) afterwards.
  static void step(std::span<Session* const> sessions, std::span<const Token> tokens, const Cancel* cancel = nullptr);

  std::span<const float> logits() const;  ///< of the last token

  /// Makes the session as if only the first `position` tokens had been given. Within the slack of the sliding windows
  /// this is free; further back the kept tokens are computed again, at the next prefill.
  void rewind(int position);

  /// Keeps the longest common prefix with `tokens`, and prefills the rest: what a chat does each turn. Always computes
  /// at least the last token. Returns the number of tokens that were reused.
  int advance_to(std::span<const Token> tokens, const Cancel* cancel = nullptr);

  Session fork() const;

  /// Written to a temporary name and renamed. restore() throws Error(format) for a damaged file and Error(unsupported)
  /// for another model's, naming both fingerprints.
  void save(const std::filesystem::path& path) const;
  static Session restore(std::shared_ptr<const Engine> engine, const std::filesystem::path& path, int context = 0);

  /// For debugging: called after each layer of every later call with the AltUp streams, float[altup][tokens][hidden].
  /// The KV-shared layers see only the tokens whose logits are wanted. An empty function switches it off.
  void on_layer(std::function<void(std::size_t layer, std::span<const float> streams)> trace);

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  Session();
  std::unique_ptr<Impl> impl_;
};

/// Applied in this order: logit bias, penalties, temperature, top-k, top-p, min-p. The defaults are Gemma's.
struct Sampling {
  float temperature = 1.0F;         ///< 0: greedy, ties to the lowest id
  int top_k = 64;                   ///< 0: off
  float top_p = 0.95F;              ///< 1: off
  float min_p = 0.0F;               ///< 0: off
  float repetition_penalty = 1.0F;  ///< CTRL (arXiv:1909.05858) over prompt and answer; 1: off
  float presence_penalty = 0.0F;    ///< OpenAI's, over the answer
  float frequency_penalty = 0.0F;   ///< OpenAI's, over the answer
  std::map<Token, float> logit_bias;
  std::uint64_t seed = 0;
  int top_logprobs = 0;  ///< alternatives reported with each token, at most 20
};

struct LogProb {
  Token token = 0;
  float logprob = 0.0F;  ///< natural logarithm, of the model's own distribution before sampling changes it
};

struct SampledToken {
  Token token = 0;
  float logprob = 0.0F;  ///< this and `top` are filled when Sampling::top_logprobs > 0
  std::vector<LogProb> top;
};

enum class FinishReason { stop, length, context, cancelled };

/// Who guesses the next tokens, so that the model can check several in one pass over its weights: nobody, the last
/// occurrence of the last tokens in prompt and answer, or a slice of the model. Guessing stops for a while where too
/// many guesses are wrong. It changes the time that an answer takes and nothing else.
enum class Speculate { none, lookup, slice };

struct GenerateOptions {
  int max_tokens = 256;
  Sampling sampling;
  std::vector<std::string> stop{};        ///< the text ends before the first of these
  Speculate speculate = Speculate::none;  ///< by generate(); in a Scheduler the other answers fill the pass already
  /// The slice that guesses. By default the published one of a model of 35 layers (E4B), half the width of any other.
  std::optional<Slice> draft{};
  int draft_tokens = 0;  ///< guesses at a time, at most 15; 0: as many as pay
};

struct GenerateStats {
  int prompt_tokens = 0;
  int reused_tokens = 0;  ///< of the prompt, already in the session
  int generated_tokens = 0;
  int drafted_tokens = 0;   ///< guessed by speculation
  int accepted_tokens = 0;  ///< of those, right: so many passes over the weights were saved
  double prefill_seconds = 0;
  double decode_seconds = 0;
  double first_token_seconds = 0;  ///< from the call to the first sampled token
};

struct GenerateResult {
  std::string text;
  std::vector<Token> tokens;           ///< without the end token
  std::vector<SampledToken> logprobs;  ///< filled when Sampling::top_logprobs > 0
  FinishReason finish_reason = FinishReason::length;
  GenerateStats stats;
};

/// A piece of the answer: whole UTF-8 characters, never part of a stop string. Return false to stop.
using OnText = std::function<bool(std::string_view text)>;

/// Brings the session to `prompt` (reusing what it already holds) and answers. The session then holds the prompt and
/// the answer, so that the next turn computes only what is new. Cancelling returns what there is, with
/// FinishReason::cancelled.
GenerateResult generate(Session& session, std::span<const Token> prompt, const GenerateOptions& options,
                        const OnText& on_text = {}, const Cancel* cancel = nullptr);

struct SchedulerOptions {
  int sequences = 16;  ///< computed at the same time; others wait for their turn
  /// Tokens of prompts that a pass computes while answers are being written: more begins new answers sooner, fewer
  /// keeps the others flowing. Without any, a pass takes the engine's chunk.
  int prompt_rows = 32;
};

/// What became of a request. On an error there is what there was of the result.
struct Outcome {
  GenerateResult result;
  std::exception_ptr error;
  Session session;  ///< holds the prompt and the answer, or as much of them as was computed
};

struct Request {
  std::vector<Token> prompt;
  GenerateOptions options;
  OnText on_text{};
  std::function<void(Outcome&&)> on_end{};  ///< called once; must not throw
  std::optional<Session> session{};         ///< to go on with, such as a fork; by default a new one
};

/// Answers requests together: in each pass over the weights one token of every answer that is being written, and pieces
/// of the prompts of those that are not yet. Requests join and leave between passes. Each gets what generate() gives it
/// alone, to the last bit, and its errors are its own.
class Scheduler {
 public:
  explicit Scheduler(std::shared_ptr<const Engine> engine, const SchedulerOptions& options = {});
  /// Ends what is still running, as cancelled. No other call may be running.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  using Id = std::uint64_t;
  /// From any thread. Throws Error for a request that cannot be. The callbacks come from the thread that steps.
  Id submit(Request request);
  /// From any thread: ends a request before the next pass, as cancelled, unless it has ended by itself.
  void cancel(Id id);

  /// One pass; false if there is nothing to do. By one thread at a time. When *cancel is set it throws Error(cancelled)
  /// and the requests are as they were before.
  bool step(const Cancel* cancel = nullptr);
  /// Steps, and waits for requests where there are none, until stop() is called from another thread; then ends what is
  /// still running, as cancelled. There is no way back.
  void run();
  void stop();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

/// Several prompts, answered by a Scheduler. results[i] equals what generate() gives for prompts[i] alone. on_text gets
/// the index of the prompt.
std::vector<GenerateResult> generate_batch(
    const std::shared_ptr<const Engine>& engine, std::span<const std::vector<Token>> prompts,
    std::span<const GenerateOptions> options,
    const std::function<bool(std::size_t index, std::string_view text)>& on_text = {}, const Cancel* cancel = nullptr);

/// Who speaks in a turn of a conversation.
enum class Role { system, user, model };

/// Of "system", "user", "model" or "assistant"; throws Error(argument) for another.
Role parse_role(std::string_view name);

/// One turn of a conversation. Nothing in its text becomes a control token, whatever is typed there.
struct Turn {
  Role role = Role::user;
  std::string text;
  /// A model's turn: the tokens that were sampled, which take the place of the text. Tokenising the text again may give
  /// others, and then nothing that was computed for them can be used again.
  std::vector<Token> tokens{};
};

/// How a prompt ends that is made of turns.
enum class PromptEnd {
  generation_prompt,  ///< with the beginning of the model's next turn
  complete,           ///< with the last turn
  open_answer         ///< inside the last turn, which is the model's: it goes on writing there
};

struct PromptOptions {
  PromptEnd end = PromptEnd::generation_prompt;
};

}  // namespace gemlet
