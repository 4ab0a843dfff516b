#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "gemlet/error.hpp"
#include "gemlet/export.h"
#include "gemlet/work.hpp"

/// gemlet's C++ interface. An `Engine` is a loaded model: immutable, shared by threads. A `Session` is one
/// timeline, that is one sequence of tokens with its KV cache: used by one thread at a time. Every failure is an
/// `Error`.
namespace gemlet {

using Token = std::int32_t;

/// BLAKE2b of 128 bits: contents with the same hash are taken for the same.
using ContentHash = std::array<std::uint64_t, 2>;

/// Hash of bytes, for Media and the like.
GEMLET_API ContentHash content_hash(std::span<const std::byte> bytes);

/// A picture or a sound that has been encoded: what stands for it in a prompt. Encoders::encode() makes it.
struct Medium {
  std::string begin;      ///< the piece that a prompt has in front of it: "<start_of_image>"
  std::string end{};      ///< the piece behind it; empty where the mark is the last of the rows
  std::size_t count = 0;  ///< rows, and places that it takes in a prompt
  ContentHash content{};  ///< of what was encoded, how, and by which encoders
  std::shared_ptr<const std::vector<float>> rows{};  ///< float[count][hidden_size], as they enter the first layer
};

/// A picture or a sound in a timeline: embeddings that stand in for those of its placeholder tokens.
struct Media {
  std::size_t begin = 0;  ///< position of the first placeholder
  std::size_t count = 0;  ///< placeholders
  ContentHash content{};  ///< of what was encoded: placeholders are alike, so that only this tells two pictures apart
  std::shared_ptr<const std::vector<float>> rows{};  ///< float[count][hidden_size], as they enter the first layer

  std::size_t end() const { return begin + count; }
  bool same(const Media& other) const {
    return begin == other.begin && count == other.count && content == other.content;
  }
};

/// Tokens, with what stands in the places of some of them.
struct Prompt {
  Prompt() = default;
  Prompt(std::vector<Token> ids) : tokens(std::move(ids)) {}
  Prompt(std::initializer_list<Token> ids) : tokens(ids) {}
  Prompt(std::span<const Token> ids) : tokens(ids.begin(), ids.end()) {}

  std::vector<Token> tokens;
  std::vector<Media> media;  ///< in order; positions count from the first token
};

/// Type of the KV cache. int8: a scale for each position and head; half the memory of f16.
enum class CacheType { f16, f32, int8 };

/// Parses "f16", "f32" or "int8"; throws Error(argument) for another name.
GEMLET_API CacheType parse_cache_type(std::string_view name);

/// A part of a MatFormer model (arXiv:2310.07707) that is a smaller model: the first so many units of each feed-forward
/// layer, without some of the layers. The default is the whole.
struct Slice {
  double ffn_share = 1;               ///< of each layer's feed-forward width
  std::vector<int> ffn_widths{};      ///< instead: one for all layers, or one for each layer that is kept
  std::vector<int> dropped_layers{};  ///< by their numbers in the file
  int of_layers = 0;                  ///< a slice of a model that has just so many layers; 0: of any

  /// "e2b" (the published one of E4B), a share of the width ("0.5"), a width ("8192"), or widths and layers:
  /// "ffn=8192x25,16384x5:drop=20-24". Throws Error(argument).
  GEMLET_API static Slice parse(std::string_view text);
  bool operator==(const Slice&) const = default;
};

struct EngineOptions {
  int threads = 0;  ///< 0: one for each physical core, within the process's quota
  int context = 0;  ///< context length in tokens; 0: the smaller of 8192 and what the model was trained for
  int chunk = 256;  ///< prompt tokens computed at a time (batch size of prefill): more is faster and takes more memory
  CacheType cache = CacheType::f16;
  Slice slice{};          ///< MatFormer slice of the model: views on the mapped weights, nothing is copied
  std::string kernels{};  ///< by instruction set ("scalar", "avx2", ...); empty: the best this CPU runs
};

/// One field of a model's configuration, in the checkpoint's vocabulary; lists have one entry a layer.
using Hyperparameter = std::variant<bool, std::int64_t, double, std::string, std::vector<bool>,
                                    std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>>;
using Hyperparameters = std::map<std::string, Hyperparameter>;

struct TensorInfo {
  std::string name;
  std::string type;                 ///< "Q4_0"
  std::vector<std::int64_t> shape;  ///< outermost first
  std::size_t bytes = 0;
  bool on_flash = false;  ///< read row by row from the file, never resident as a whole
};

/// One layer of a model: what it stores, what it attends to and how wide it is.
struct LayerInfo {
  int index = 0;      ///< number in the file
  int kv_source = 0;  ///< number of the layer whose keys and values it reads: its own, or one it shares
  int kv_heads = 0;
  int head_dim = 0;
  int window = 0;  ///< positions that a token attends to, itself included; 0: all before it
  int intermediate_size = 0;
};

/// What `gemlet inspect` shows.
struct ModelInfo {
  std::string architecture;  ///< as the file names it (general.architecture)
  std::string name;
  std::string chat_template;  ///< Jinja, empty if the file has none
  int vocabulary = 0;
  int hidden_size = 0;
  int layers = 0;
  int file_layers = 0;  ///< more than `layers` where a slice drops some
  int trained_context = 0;
  std::vector<LayerInfo> layer_info;  ///< of each layer
  Hyperparameters hyperparameters;    ///< the whole configuration
  std::string kernels;                ///< the kernel table in use
  int threads = 0;
  int context = 0;
  std::size_t file_bytes = 0;
  std::size_t encoder_bytes = 0;    ///< of encoders of pictures and sound that stand in the same file
  std::uint64_t fingerprint = 0;    ///< of the weights and the configuration; saved sessions carry it
  std::vector<TensorInfo> tensors;  ///< of the text model
};

enum class TokenKind { normal, unknown, control, user_defined, unused, byte };

/// Set from any thread to stop a running call, which then throws Error(cancelled) and leaves the session as it was
/// before the call.
using Cancel = std::atomic<bool>;

/// One matrix of an Adapter: W x becomes W x + scale * B (A x).
struct AdapterUpdate {
  std::string tensor;  ///< in the names of the model's file: "blk.0.attn_q.weight"
  std::size_t rank = 0;
  std::vector<float> a;  ///< float[rank][cols]
  std::vector<float> b;  ///< float[rows][rank]
  float scale = 1;
};

/// A set of low-rank updates (LoRA, arXiv:2106.09685), which sessions of one engine can share.
class Adapter;

/// Who speaks in a turn of a conversation.
enum class Role { system, user, model };

/// Parses "system", "user", "model" or "assistant"; throws Error(argument) for another name.
GEMLET_API Role parse_role(std::string_view name);

/// A piece of a turn: text, or a picture or a sound.
struct TurnPart {
  std::string text{};
  std::shared_ptr<const Medium> medium{};  ///< null for text
};

/// One turn of a conversation. Nothing in its text becomes a control token, whatever is typed there.
struct Turn {
  Role role = Role::user;
  std::string text;
  /// A model's turn: the tokens that were sampled, which take the place of the text. Tokenising the text again may give
  /// others, and then nothing that was computed for them can be used again.
  std::vector<Token> tokens{};
  /// A user's turn: what it consists of, in order, in place of the text.
  std::vector<TurnPart> parts{};
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

class GEMLET_API Engine : public std::enable_shared_from_this<Engine> {
 public:
  static std::shared_ptr<const Engine> load(const std::filesystem::path& path, const EngineOptions& options = {});
  ~Engine();

  const ModelInfo& info() const;
  Work work() const;

  /// Throws Error(argument), naming the tensor, for one that the model does not have or whose shape does not fit.
  std::shared_ptr<const Adapter> make_adapter(std::span<const AdapterUpdate> updates) const;

  /// Bytes that are not UTF-8 become U+FFFD, one each, as in
  /// sentencepiece. `special`: text like "<start_of_turn>" becomes its control token;
  /// otherwise it is plain text. `bos` puts the begin-of-sequence token first.
  std::vector<Token> tokenize(std::string_view text, bool bos = false, bool special = true) const;
  /// The bytes that the tokens stand for; control tokens are left out unless `special`. Throws for an id outside the
  /// vocabulary.
  std::string detokenize(std::span<const Token> tokens, bool special = false) const;
  /// The tokens of a whole conversation in the format of the model's own turn markers, the begin-of-sequence token
  /// first. No text can pass for markup or for a picture. Throws Error(argument) naming the turn that does not fit, and
  /// Error(unsupported) for a vocabulary without turn markers, or without those of a medium.
  Prompt prompt(std::span<const Turn> turns, const PromptOptions& options = {}) const;
  std::string piece(Token token) const;  ///< as the file stores it
  TokenKind kind(Token token) const;
  std::optional<Token> find_token(std::string_view piece) const;
  Token bos() const;
  bool is_end(Token token) const;  ///< end of sequence or end of turn

  struct GEMLET_HIDDEN Impl;

 private:
  Engine();
  std::unique_ptr<Impl> impl_;
};

/// Which positions of a prefill need logits.
enum class Logits { last, all };

class GEMLET_API Session {
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
  std::span<const Media> media() const;

  /// The low-rank updates that everything from here on is computed with; null for none. Forgets all tokens if it is
  /// another adapter than before.
  void set_adapter(std::shared_ptr<const Adapter> adapter);

  /// Appends a prompt. Throws Error(context), naming both lengths, when it does not fit, and Error(argument) for an
  /// empty one, an id outside the vocabulary or media that do not fit the tokens; nothing has changed then. Returns
  /// logits: float[vocabulary] of the last token, or float[tokens][vocabulary]; valid until the next call on this
  /// session.
  std::span<const float> prefill(const Prompt& prompt, Logits logits = Logits::last, const Cancel* cancel = nullptr);

  /// One token for each of several distinct sessions of one engine, computed together; logits(i) afterwards.
  static void step(std::span<Session* const> sessions, std::span<const Token> tokens, const Cancel* cancel = nullptr);

  std::span<const float> logits() const;  ///< of the last token

  /// Makes the session as if only the first `position` tokens had been given. Within the slack of the sliding windows
  /// this is free; further back the kept tokens are computed again, at the next prefill.
  void rewind(int position);

  /// Keeps the longest common prefix with `prompt`, of tokens and media, and prefills the rest: what a chat does each
  /// turn. Always computes at least the last token. Returns the number of tokens that were reused.
  int advance_to(const Prompt& prompt, const Cancel* cancel = nullptr);

  Session fork() const;

  /// Renamed when it is complete; Error(io) for a symbolic link, a device or the model itself. restore() throws
  /// Error(format) for a damaged file and Error(unsupported) for another model's, naming both fingerprints.
  void save(const std::filesystem::path& path) const;
  static Session restore(std::shared_ptr<const Engine> engine, const std::filesystem::path& path, int context = 0,
                         std::shared_ptr<const Adapter> adapter = nullptr);

  /// For debugging: called after each layer of every later call with its output, float[streams][tokens][hidden], one
  /// stream in most models. Where only the tokens whose logits are wanted go on, only those are left. An empty function
  /// switches it off.
  void on_layer(std::function<void(std::size_t layer, std::span<const float> streams)> trace);

  struct GEMLET_HIDDEN Impl;

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
  float repetition_penalty = 1.0F;  ///< CTRL (arXiv:1909.05858) over prompt and completion; 1: off
  float presence_penalty = 0.0F;    ///< OpenAI's, over the completion
  float frequency_penalty = 0.0F;   ///< OpenAI's, over the completion
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

/// Speculative decoding: where draft tokens come from, several of which the model verifies in one pass over its
/// weights. lookup: prompt lookup decoding, from the last occurrence of the last tokens in prompt and completion;
/// slice: a slice of the model is the draft model. Drafting pauses while too few draft tokens are accepted. It changes
/// the time that a completion takes and nothing else.
enum class Speculate { none, lookup, slice };

/// Constrained decoding: which tokens may be sampled next, given those so far (a grammar, a JSON schema). Used by one
/// thread at a time.
class GEMLET_API Constraint {
 public:
  virtual ~Constraint() = default;
  /// Sets the logits of all tokens that may not come next to minus infinity; at least one is left, which may be an end
  /// token.
  virtual void mask(std::span<float> logits) = 0;
  /// Advances by a token that was sampled or drafted.
  virtual void accept(Token token) = 0;
  /// An independent copy in the same state: draft tokens may be rejected.
  virtual std::unique_ptr<Constraint> clone() const = 0;
};

struct GenerateOptions {
  int max_tokens = 256;
  Sampling sampling;
  /// Every completion starts from a clone. Masks before bias, penalties and sampling.
  std::shared_ptr<const Constraint> constraint{};
  std::vector<std::string> stop{};        ///< the text ends before the first of these
  Speculate speculate = Speculate::none;  ///< in generate(); a Scheduler fills its passes with other requests
  /// The slice that is the draft model. By default the published one of a model of 35 layers (E4B), half the width of
  /// any other.
  std::optional<Slice> draft{};
  int draft_tokens = 0;  ///< draft tokens a step, at most 15; 0: adaptive
};

struct GenerateStats {
  int prompt_tokens = 0;
  int reused_tokens = 0;  ///< of the prompt, already in the session
  int generated_tokens = 0;
  int drafted_tokens = 0;   ///< draft tokens proposed
  int accepted_tokens = 0;  ///< draft tokens accepted; each saved one pass over the weights
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

/// Gets a piece of the completion: whole UTF-8 characters, never part of a stop string. Return true to go on and false
/// to stop. (The C interface's gemlet_on_text returns 0 to go on.)
using OnText = std::function<bool(std::string_view text)>;

/// One step of a completion. Text that may yet turn out to be a part of a stop string, or of a character, comes with a
/// later piece; the last may have text alone.
struct Piece {
  std::string_view text;                   ///< as OnText gets it; may be empty
  std::span<const Token> tokens;           ///< sampled since the piece before
  std::span<const SampledToken> logprobs;  ///< of `tokens`, where Sampling::top_logprobs > 0
};

/// Gets every token that is sampled, besides the text. Return true to go on and false to stop.
using OnPiece = std::function<bool(const Piece& piece)>;

/// Brings the session to `prompt`, reusing what it already holds (prompt caching), and generates a completion. The
/// session then holds the prompt and the completion, so that the next turn computes only what is new. Cancelling
/// returns the completion so far, with FinishReason::cancelled.
GEMLET_API GenerateResult generate(Session& session, const Prompt& prompt, const GenerateOptions& options,
                                   const OnText& on_text = {}, const Cancel* cancel = nullptr,
                                   const OnPiece& on_piece = {});

struct SchedulerOptions {
  int sequences = 16;  ///< computed at the same time; others wait for their turn
  /// Tokens of prompts that a pass computes while completions are under way: more lets new requests begin sooner, fewer
  /// lets the others go on faster. While there are no completions, a pass takes the engine's chunk.
  int prompt_rows = 32;
  int max_waiting = 0;  ///< requests that may wait for their turn, 0: any number; submit() refuses more
  /// Prompt caching across requests: so many sessions are kept when their completions have ended, the most recently
  /// used ones. A request whose session is new goes on from a fork of the one that shares the longest prefix with its
  /// prompt. The completion is the same, to the last bit; less of its prompt is computed. 0: none.
  int prefixes = 0;
  std::size_t prefix_bytes = 0;  ///< that their keys and values may take; 0: any number
};

/// The end of a request. On an error, `result` is what was generated before.
struct Outcome {
  GenerateResult result;
  std::exception_ptr error;
  /// Holds the prompt and the completion, or as much of them as was computed: the next turn's Request goes on with it.
  Session session;
};

struct Request {
  Prompt prompt;
  GenerateOptions options;
  OnText on_text{};
  OnPiece on_piece{};
  std::function<void(Outcome&&)> on_end{};  ///< called once; must not throw
  std::optional<Session> session{};         ///< to go on with; by default a new one
  /// Requests share the sessions of SchedulerOptions::prefixes with those of the same scope only, such as an API key:
  /// the time to the first token tells whether somebody has sent the same prefix before. A session that requests of
  /// several scopes go on with is shared with none of them; so is one that was saved under a scope and restored.
  std::string prefix_scope{};
};

struct SchedulerLoad {
  std::size_t active = 0;   ///< requests that are computed
  std::size_t waiting = 0;  ///< requests that wait for their turn
};

/// Continuous batching: each pass over the weights computes one token of every completion under way, and pieces of the
/// prompts of the other requests. Requests join and leave between passes. Each gets what generate() gives it
/// alone, to the last bit, and its errors are its own.
///
/// A child of fork() has no thread that runs its parent's scheduler: there submit() throws Error(argument), and stop()
/// and the destructor end every request with that error and an empty session.
class GEMLET_API Scheduler {
 public:
  explicit Scheduler(std::shared_ptr<const Engine> engine, const SchedulerOptions& options = {});
  /// Ends what is still running, as cancelled. No other call may be running.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  using Id = std::uint64_t;
  /// From any thread. The callbacks come from the thread that steps. Throws Error for a request that cannot be,
  /// Error(overload) where too many wait, and Error(argument) after stop(); `request` is then as it was.
  Id submit(Request&& request);
  /// From any thread: ends a request before the next pass, as cancelled, unless it has ended by itself.
  void cancel(Id id);
  SchedulerLoad load() const;  ///< from any thread

  /// One pass; false if there is nothing to do. By one thread at a time. When *cancel is set it throws Error(cancelled)
  /// and the requests are as they were before.
  bool step(const Cancel* cancel = nullptr);
  /// Steps, and waits for requests where there are none, until stop() is called from another thread; then ends what is
  /// still running, as cancelled. There is no way back. Should stepping itself fail, every request ends with that
  /// error, and so do later calls of submit().
  void run();
  void stop();

  struct GEMLET_HIDDEN Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

/// Completes several prompts as a batch, in a Scheduler. results[i] equals what generate() gives for prompts[i] alone.
/// on_text gets the index of the prompt.
GEMLET_API std::vector<GenerateResult> generate_batch(
    const std::shared_ptr<const Engine>& engine, std::span<const std::vector<Token>> prompts,
    std::span<const GenerateOptions> options,
    const std::function<bool(std::size_t index, std::string_view text)>& on_text = {}, const Cancel* cancel = nullptr);

}  // namespace gemlet
