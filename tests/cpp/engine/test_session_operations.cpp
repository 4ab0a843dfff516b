#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "check.hpp"
#include "engine/session_oracle.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "tiny_gemma3.hpp"
#include "tiny_gemma3n.hpp"

// Random operations on several sessions of one engine. After each one every session that it touched must hold the
// tokens that it should, with the logits, to the last bit, that a fresh session computes for them.
//
//   test_session_operations [operations for each engine [seed]]
using namespace gemlet;
using tiny::lively;

namespace {

using Tokens = std::vector<Token>;

constexpr std::size_t context = 420;  // passes the rings of the sliding layers, of 128 positions, several times
#ifdef GEMLET_SANITIZED
constexpr std::size_t default_operations = 200;
#else
constexpr std::size_t default_operations = 3600;
#endif

struct Arguments {
  std::size_t operations = default_operations;
  std::uint64_t seed = 1;
};
Arguments arguments;
std::size_t operations_done = 0;

/// A session, and what it should be.
struct Slot {
  explicit Slot(const std::shared_ptr<const Engine>& engine) : session(engine) {}

  Session session;
  Tokens tokens{};
  std::size_t adapter = 0;
  bool has_logits = false;

  void forget() {
    tokens.clear();
    has_logits = false;
  }
};

/// A session file, and what it should hold.
struct Saved {
  std::filesystem::path path;
  Tokens tokens;
  std::size_t adapter = 0;
  bool has_logits = false;
};

class Play {
 public:
  Play(std::shared_ptr<const Engine> engine, std::string name, std::uint64_t seed)
      : engine_(std::move(engine)), name_(std::move(name)), random_(seed), oracle_(engine_, random_, context) {
    for (int i = 0; i < 5; ++i) slots_.emplace_back(engine_);
    for (const int prefixes : {0, 3}) {
      schedulers_.push_back(std::make_unique<Scheduler>(
          engine_, SchedulerOptions{.sequences = 3, .prompt_rows = 7, .prefixes = prefixes}));
    }
  }

  void run(std::size_t operations) {
    using Operation = void (Play::*)();
    const std::vector<std::tuple<const char*, Operation, std::size_t>> table = {
        {"prefill", &Play::prefill, 20},    {"prefill with all logits", &Play::prefill_all, 6},
        {"step", &Play::step, 20},          {"rewind", &Play::rewind, 12},
        {"advance", &Play::advance, 14},    {"generate", &Play::generate_one, 5},
        {"schedule", &Play::schedule, 4},   {"fork", &Play::fork, 8},
        {"save", &Play::save, 4},           {"restore", &Play::restore, 5},
        {"misuse", &Play::misuse, 8},       {"cancelled prefill", &Play::cancel_prefill, 4},
        {"adapter", &Play::set_adapter, 2},
    };
    std::size_t weights = 0;
    for (const auto& [name, operation, weight] : table) weights += weight;
    for (std::size_t i = 0; i < operations; ++i) {
      std::size_t drawn = random_.below(weights);
      auto entry = table.begin();
      while (drawn >= std::get<2>(*entry)) drawn -= std::get<2>(*entry++);
      try {
        (this->*std::get<1>(*entry))();
      } catch (const check::Failure& failure) {
        fail(i, std::get<0>(*entry), failure.message);
      } catch (const std::exception& error) {
        fail(i, std::get<0>(*entry), error.what());
      }
      ++operations_done;
    }
  }

 private:
  [[noreturn]] void fail(std::size_t at, const char* operation, const std::string& why) const {
    throw check::Failure{name_ + ", seed " + std::to_string(arguments.seed) + ", operation " + std::to_string(at) +
                         " (" + operation + "): " + why};
  }

  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_.below(n)); }
  Slot& any() { return slots_[below(slots_.size())]; }
  std::size_t room(const Slot& slot) const {
    return static_cast<std::size_t>(slot.session.context()) - slot.tokens.size();
  }

  void check_slot(const Slot& slot) {
    CHECK(std::ranges::equal(slot.session.tokens(), slot.tokens));
    if (slot.has_logits) {
      CHECK(std::ranges::equal(slot.session.logits(), oracle_.last(slot.tokens, slot.adapter)));
    } else {
      check::throws<Error>([&] { (void)slot.session.logits(); });
    }
  }

  /// As many tokens as there is room for; mostly few, now and then more than two rings hold.
  std::size_t length(std::size_t most) {
    const std::size_t kinds[] = {1, 4, 30, 30, 200};
    return std::min(most, 1 + below(kinds[below(5)]));
  }

  /// How a text may go on: as one of the known texts does, if it is the beginning of one.
  Tokens more(const Slot& slot, std::size_t count) { return oracle_.continuation(slot.tokens, count, random_); }

  /// What a chat may ask next of a session: the same, less, more, another end, or something else.
  Tokens next_prompt(const Slot& slot) {
    Tokens prompt = slot.tokens;
    switch (below(6)) {
      case 0:
        break;
      case 1:
        if (!prompt.empty()) prompt.pop_back();
        break;
      case 2:
        if (!prompt.empty()) prompt.back() = (prompt.back() + 1) % 290;
        break;
      case 3:
        prompt.resize(prompt.size() - below(prompt.size() + 1));
        break;
      case 4:
        prompt.clear();
        break;
    }
    const std::size_t most = static_cast<std::size_t>(slot.session.context()) - prompt.size();
    if (prompt.empty() || (most > 0 && below(3) > 0)) {
      const Tokens end = oracle_.continuation(prompt, length(most), random_);
      prompt.insert(prompt.end(), end.begin(), end.end());
    }
    return prompt;
  }

  void prefill() {
    Slot& slot = any();
    if (room(slot) == 0) return rewind(slot);
    const Tokens tokens = more(slot, length(room(slot)));
    slot.session.prefill(tokens);
    extend(slot, tokens);
  }

  void extend(Slot& slot, const Tokens& tokens) {
    slot.tokens.insert(slot.tokens.end(), tokens.begin(), tokens.end());
    slot.has_logits = true;
    check_slot(slot);
  }

  void prefill_all() {
    Slot& slot = any();
    if (room(slot) == 0) return rewind(slot);
    const Tokens tokens = more(slot, std::min<std::size_t>(length(room(slot)), 40));
    const auto logits = slot.session.prefill(tokens, Logits::all);
    const std::size_t width = logits.size() / tokens.size();
    Tokens so_far = slot.tokens;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      so_far.push_back(tokens[i]);
      CHECK(std::ranges::equal(logits.subspan(i * width, width), oracle_.last(so_far, slot.adapter)));
    }
    extend(slot, tokens);
  }

  void step() {
    std::vector<Session*> sessions;
    std::vector<Slot*> stepped;
    Tokens tokens;
    for (Slot& slot : slots_) {
      if (room(slot) == 0 || below(2) == 0) continue;
      stepped.push_back(&slot);
      sessions.push_back(&slot.session);
      tokens.push_back(more(slot, 1)[0]);
    }
    if (sessions.empty()) return check_slot(any());
    Session::step(sessions, tokens);
    for (std::size_t i = 0; i < stepped.size(); ++i) extend(*stepped[i], {tokens[i]});
  }

  void rewind() { rewind(any()); }
  void rewind(Slot& slot) {
    const std::size_t back =
        below(3) == 0 ? below(slot.tokens.size() + 1) : below(std::min<std::size_t>(slot.tokens.size(), 70) + 1);
    slot.session.rewind(static_cast<int>(slot.tokens.size() - back));
    slot.has_logits = slot.has_logits && back == 0;
    slot.tokens.resize(slot.tokens.size() - back);
    check_slot(slot);
  }

  void advance() {
    Slot& slot = any();
    const Tokens prompt = next_prompt(slot);
    const int reused = slot.session.advance_to(prompt);
    CHECK(reused >= 0 && static_cast<std::size_t>(reused) < prompt.size());
    CHECK(std::equal(prompt.begin(), prompt.begin() + reused, slot.tokens.begin()));
    slot.tokens = prompt;
    slot.has_logits = true;
    check_slot(slot);
  }

  GenerateOptions options() {
    GenerateOptions made = lively(1 + static_cast<int>(below(12)), below(3));
    made.sampling.temperature = below(3) == 0 ? 0.0F : 3.0F;
    made.sampling.top_logprobs = static_cast<int>(below(2));
    return made;
  }

  /// Of a session that has just completed `prompt` with `result`.
  void completed(Slot& slot, const Tokens& prompt, const GenerateResult& result) {
    Tokens all = prompt;
    all.insert(all.end(), result.tokens.begin(), result.tokens.end());
    const std::size_t held = slot.session.tokens().size();
    CHECK(held >= prompt.size() && held <= all.size());
    slot.tokens.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(held));
    slot.has_logits = true;
    check_slot(slot);
  }

  void generate_one() {
    Slot& slot = any();
    const Tokens prompt = next_prompt(slot);
    GenerateOptions asked = options();
    const GenerateResult& expected = oracle_.completion(prompt, asked, slot.adapter, slot.session.context());
    asked.speculate = below(2) == 0 ? Speculate::lookup : Speculate::none;
    asked.draft_tokens = static_cast<int>(below(4));
    const bool cancelled = below(4) == 0;
    Cancel cancel = false;
    std::size_t pieces = 0;
    const std::size_t last = 1 + below(5);
    const OnPiece on_piece = [&](const Piece&) {
      if (cancelled && ++pieces == last) cancel = true;
      return true;
    };
    const GenerateResult result = generate(slot.session, prompt, asked, {}, &cancel, on_piece);
    CHECK(result.tokens.size() <= expected.tokens.size());
    CHECK(std::equal(result.tokens.begin(), result.tokens.end(), expected.tokens.begin()));
    if (!cancelled) CHECK(tiny::same(result, expected));
    completed(slot, prompt, result);
  }

  struct Requested {
    std::size_t slot;
    Tokens prompt;
    GenerateOptions options;
    std::optional<Outcome> outcome{};
    Scheduler::Id id = 0;
  };

  /// Several requests at a time; some go on with their slots' sessions, others begin new ones, perhaps from a prefix.
  void schedule() {
    Scheduler& scheduler = *schedulers_[below(schedulers_.size())];
    std::vector<Requested> requests;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (below(2) == 0) requests.push_back({i, next_prompt(slots_[i]), options()});
    }
    for (Requested& asked : requests) {
      Slot& slot = slots_[asked.slot];
      if (below(3) == 0) {
        const bool whole = static_cast<std::size_t>(slot.session.context()) == context;
        slot.session = Session(engine_, whole ? 0 : slot.session.context());
        slot.session.set_adapter(oracle_.adapter(slot.adapter));
      }
      asked.id = scheduler.submit({.prompt = asked.prompt,
                                   .options = asked.options,
                                   .on_end = [&asked](Outcome&& outcome) { asked.outcome = std::move(outcome); },
                                   .session = std::move(slot.session)});
    }
    const Requested* cancelled = !requests.empty() && below(3) == 0 ? &requests[below(requests.size())] : nullptr;
    std::size_t passes = below(12);
    while (scheduler.step()) {
      if (passes-- == 0 && cancelled != nullptr) scheduler.cancel(cancelled->id);
    }
    for (Requested& asked : requests) {
      CHECK(asked.outcome.has_value() && asked.outcome->error == nullptr);
      Slot& slot = slots_[asked.slot];
      slot.session = std::move(asked.outcome->session);
      const GenerateResult& result = asked.outcome->result;
      const GenerateResult& expected =
          oracle_.completion(asked.prompt, asked.options, slot.adapter, slot.session.context());
      CHECK(std::equal(result.tokens.begin(), result.tokens.end(), expected.tokens.begin()));
      if (result.finish_reason != FinishReason::cancelled) {
        CHECK(tiny::same(result, expected));
        completed(slot, asked.prompt, result);
        continue;
      }
      CHECK(cancelled == &asked);
      settle(slot);
    }
  }

  /// A request that was cancelled leaves whatever it had computed; it must be sound to go on with.
  void settle(Slot& slot) {
    slot.tokens.assign(slot.session.tokens().begin(), slot.session.tokens().end());
    if (slot.tokens.size() == static_cast<std::size_t>(slot.session.context())) {
      slot.session.rewind(0);
      slot.tokens.clear();
    }
    const Tokens tokens = more(slot, 1);
    slot.session.prefill(tokens);
    extend(slot, tokens);
  }

  void fork() {
    const Slot& from = any();
    Slot copy(engine_);
    copy.session = from.session.fork();
    copy.tokens = from.tokens;
    copy.adapter = from.adapter;
    copy.has_logits = from.has_logits;
    check_slot(copy);
    any() = std::move(copy);
  }

  void save() {
    const Slot& slot = any();
    const std::size_t which = below(4);
    Saved saved{directory_.path() / std::to_string(which), slot.tokens, slot.adapter, slot.has_logits};
    slot.session.save(saved.path);
    saved_.insert_or_assign(which, std::move(saved));
    check_slot(slot);
  }

  void restore() {
    if (saved_.empty()) return save();
    const Saved& saved = std::next(saved_.begin(), static_cast<std::ptrdiff_t>(below(saved_.size())))->second;
    const std::size_t least = std::max<std::size_t>(saved.tokens.size(), 1);
    const std::size_t held = below(2) == 0 ? context : least + below(context - least + 1);
    if (!saved.tokens.empty() && below(8) == 0) {
      const int small = static_cast<int>(saved.tokens.size()) - 1;
      if (small > 0) {
        CHECK_THROWS(Session::restore(engine_, saved.path, small, oracle_.adapter(saved.adapter)), Error::Kind::context,
                     saved.path.string());
      }
    }
    Slot slot(engine_);
    slot.session = Session::restore(engine_, saved.path, static_cast<int>(held), oracle_.adapter(saved.adapter));
    slot.tokens = saved.tokens;
    slot.adapter = saved.adapter;
    slot.has_logits = saved.has_logits;
    check_slot(slot);
    any() = std::move(slot);
  }

  /// What cannot be is refused, and changes nothing.
  void misuse() {
    Slot& slot = any();
    const auto space = static_cast<std::size_t>(slot.session.context());
    switch (below(6)) {
      case 0:
        CHECK_THROWS(slot.session.prefill(Tokens(space - slot.tokens.size() + 1, 5)), Error::Kind::context, "context");
        break;
      case 1:
        CHECK_THROWS(slot.session.advance_to(Tokens(space + 1, 5)), Error::Kind::context, "context");
        break;
      case 2:
        CHECK_THROWS(slot.session.advance_to({5, 300}), Error::Kind::argument, "300");
        break;
      case 3:
        CHECK_THROWS(generate(slot.session, Tokens(space + 1, 5), options()), Error::Kind::context, "context");
        break;
      case 4:
        CHECK_THROWS(slot.session.rewind(static_cast<int>(slot.tokens.size()) + 1), Error::Kind::argument, "rewind");
        break;
      default: {
        Session* const twice[] = {&slot.session, &slot.session};
        const Tokens two = {5, 6};
        check::throws<Error>([&] { Session::step(twice, two); });
      }
    }
    check_slot(slot);
  }

  /// Cancelled from inside, in any layer of any chunk: as if it had never been called.
  void cancel_prefill() {
    Slot& slot = any();
    const Tokens prompt = next_prompt(slot);
    Cancel cancel = false;
    std::size_t left = 1 + below(12);
    slot.session.on_layer([&](std::size_t, std::span<const float>) {
      if (--left == 0) cancel = true;
    });
    try {
      slot.session.advance_to(prompt, &cancel);
      slot.tokens = prompt;
      slot.has_logits = true;
    } catch (const Error& error) {
      CHECK(error.kind() == Error::Kind::cancelled);
    }
    slot.session.on_layer({});
    check_slot(slot);
  }

  void set_adapter() {
    Slot& slot = any();
    const std::size_t adapter = below(SessionOracle::adapters);
    slot.session.set_adapter(oracle_.adapter(adapter));
    if (adapter != slot.adapter) slot.forget();
    slot.adapter = adapter;
    check_slot(slot);
  }

  gguf::TemporaryDirectory directory_;
  std::shared_ptr<const Engine> engine_;
  std::string name_;
  tiny::Random random_;
  SessionOracle oracle_;
  std::vector<Slot> slots_;
  std::vector<std::unique_ptr<Scheduler>> schedulers_;
  std::map<std::size_t, Saved> saved_;
};

tiny::Shape small_gemma3n() {
  tiny::Shape shape = tiny::smallest();
  shape.sliding = {1, 0, 1, 1};
  shape.shared_layers = 1;
  return shape;
}

tiny::Gemma3Shape small_gemma3() {
  tiny::Gemma3Shape shape;
  shape.hidden = 32;
  shape.heads = 1;
  shape.ffn = 32;
  shape.sliding = {1, 0, 1};
  return shape;
}

void play(const std::string& name, const gguf::Builder& file, CacheType cache) {
  const gguf::TemporaryDirectory directory;
  const auto engine = Engine::load(directory.write("tiny.gguf", file.build().bytes),
                                   {.threads = 1, .context = static_cast<int>(context), .chunk = 23, .cache = cache});
  static std::uint64_t number = 0;  // each engine has operations of its own
  Play(engine, name, 100 * arguments.seed + number++).run(arguments.operations);
}

}  // namespace

TEST("gemma3n, keys and values of float16") { play("gemma3n f16", tiny::gemma3n(small_gemma3n()), CacheType::f16); }
TEST("gemma3n, keys and values of float32") { play("gemma3n f32", tiny::gemma3n(small_gemma3n()), CacheType::f32); }
TEST("gemma3n, keys and values of int8") { play("gemma3n int8", tiny::gemma3n(small_gemma3n()), CacheType::int8); }
TEST("gemma3, keys and values of float16") {
  play("gemma3 f16", tiny::gemma3(small_gemma3(), tiny::gemma3_q_proj(small_gemma3())), CacheType::f16);
}
TEST("gemma3, keys and values of float32") {
  play("gemma3 f32", tiny::gemma3(small_gemma3(), tiny::gemma3_q_proj(small_gemma3())), CacheType::f32);
}
TEST("gemma3, keys and values of int8") {
  play("gemma3 int8", tiny::gemma3(small_gemma3(), tiny::gemma3_q_proj(small_gemma3())), CacheType::int8);
}

TEST("all operations were done") {
  std::printf("%zu operations, seed %llu\n", operations_done, static_cast<unsigned long long>(arguments.seed));
  CHECK(operations_done == 6 * arguments.operations);
#ifndef GEMLET_SANITIZED
  if (arguments.operations == default_operations) CHECK(operations_done >= 20000);
#endif
}

int main(int argc, char** argv) {
  if (argc > 1) arguments.operations = std::strtoull(argv[1], nullptr, 10);
  if (argc > 2) arguments.seed = std::strtoull(argv[2], nullptr, 10);
  return check::run_tests();
}
