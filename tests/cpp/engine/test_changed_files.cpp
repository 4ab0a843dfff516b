#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "check.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "tiny_gemma3.hpp"
#include "tiny_gemma3n.hpp"

// Model files and saved sessions that are truncated or overwritten while they are in use.
using namespace gemlet;
using tiny::lively;
using tiny::prompt;

namespace {

using Floats = std::vector<float>;

/// Gemma 3 reads all weights in place; Gemma 3n copies those of one table from the file, row by row.
enum class Kind { gemma3, gemma3n };

const std::string& bytes_of(Kind kind) {
  static const std::string gemma3 = tiny::gemma3().build().bytes;
  static const std::string gemma3n = tiny::gemma3n({.ffn = 512}).build().bytes;
  return kind == Kind::gemma3 ? gemma3 : gemma3n;
}

/// An engine and its file, which may be spoiled.
struct Model {
  explicit Model(Kind which = Kind::gemma3) : kind(which) {}

  Kind kind;
  gguf::TemporaryDirectory directory;
  std::filesystem::path path = directory.write("tiny.gguf", bytes_of(kind));
  std::shared_ptr<const Engine> engine = Engine::load(path, {.threads = 2, .context = 400, .chunk = 16});

  /// All weights that are used in place.
  void truncate() const { std::filesystem::resize_file(path, 20000); }
  /// Weights of the same size, a second later.
  void overwrite(const std::string& bytes = tiny::gemma3({}, std::vector<float>(96 * 64, 0.1F)).build().bytes) const {
    CHECK(bytes.size() == bytes_of(kind).size());
    const auto written = std::filesystem::last_write_time(path);
    std::fstream(path, std::ios::binary | std::ios::in | std::ios::out) << bytes;
    std::filesystem::last_write_time(path, written + std::chrono::seconds(1));
  }
  std::string truncated() const {
    return path.string() + ": ends before byte 20000, expected " + std::to_string(bytes_of(kind).size()) +
           " bytes as when it was opened";
  }
};

Session holding(const std::shared_ptr<const Engine>& engine, std::size_t length) {
  Session session(engine);
  session.prefill(prompt(length));
  return session;
}

Floats copy(std::span<const float> values) { return {values.begin(), values.end()}; }

void step(Session& session, Token token) {
  Session* const sessions[] = {&session};
  Session::step(sessions, {&token, 1});
}

/// What a request ends with: nothing, or its error's message.
struct Ended {
  std::string error;
  GenerateResult result;
  std::optional<Session> session;
};

/// Submits all, then steps; `meanwhile` is called after the first pass.
std::vector<Ended> run(const std::shared_ptr<const Engine>& engine, std::vector<Request> requests,
                       const std::function<void()>& meanwhile = {}, int prefixes = 0) {
  Scheduler scheduler(engine, {.prefixes = prefixes});
  std::vector<Ended> ended(requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].on_end = [&ended, i](Outcome&& outcome) {
      if (outcome.error != nullptr) {
        ended[i].error = check::throws<Error>([&] { std::rethrow_exception(outcome.error); });
      }
      ended[i].result = std::move(outcome.result);
      ended[i].session = std::move(outcome.session);
    };
    scheduler.submit(std::move(requests[i]));
  }
  scheduler.step();
  if (meanwhile) meanwhile();
  while (scheduler.step()) {
  }
  return ended;
}

Request request(std::vector<Token> tokens, std::optional<Session> session = std::nullopt) {
  return {.prompt = std::move(tokens), .options = lively(10), .session = std::move(session)};
}

/// A restored session that reads its keys and values in place, and its file.
struct Saved {
  std::filesystem::path path;
  Session session;
  std::string truncated() const { return path.string() + ": ends before byte 5000, expected "; }
  void truncate() const { std::filesystem::resize_file(path, 5000); }
};

Saved saved(const Model& model, std::size_t length = 200) {
  const auto path = model.directory.path() / "session";
  holding(model.engine, length).save(path);
  return {path, Session::restore(model.engine, path)};
}

void refuse_truncated(Kind kind) {
  const Model model(kind);
  const Model other(kind);
  const Floats expected = copy(holding(other.engine, 20).logits());
  Session session = holding(model.engine, 20);
  Session stepped = holding(model.engine, 20);
  Session unused(model.engine);
  const Floats before = copy(session.logits());
  model.truncate();
  for (int again = 0; again < 2; ++again) {
    CHECK(check::throws<Error>([&] { step(stepped, 7); }) == model.truncated());
    CHECK(stepped.position() == 20);
    CHECK(check::throws<Error>([&] { session.prefill(prompt(3)); }) == model.truncated());
    CHECK(session.position() == 20 && copy(session.logits()) == before);
    CHECK_THROWS(session.advance_to(prompt(30, 3)), Error::Kind::io, model.truncated());
    CHECK_THROWS(generate(unused, prompt(5), lively(5)), Error::Kind::io, model.truncated());
    CHECK_THROWS(session.save(model.directory.path() / "none"), Error::Kind::io, model.truncated());
    CHECK(run(model.engine,
              [] {
                std::vector<Request> one;
                one.push_back(request(prompt(9)));
                return one;
              }())[0]
              .error == model.truncated());
    CHECK_THROWS(Engine::load(model.path), Error::Kind::format, model.path.string());
  }
  CHECK(!std::filesystem::exists(model.directory.path() / "none"));
  CHECK(copy(holding(other.engine, 20).logits()) == expected);
  std::filesystem::resize_file(model.path, bytes_of(kind).size());  // what was read as zeros is still wrong
  CHECK_THROWS(step(stepped, 7), Error::Kind::io, model.path.string());
}

}  // namespace

TEST("every call on a truncated model says so, and no other model is harmed") {
  for (const Kind kind : {Kind::gemma3, Kind::gemma3n}) refuse_truncated(kind);
}

TEST("a model that is truncated while a completion is computed ends it, with none of the zeros in the session") {
  for (const Speculate how : {Speculate::none, Speculate::lookup, Speculate::slice}) {
    const Kind kind = how == Speculate::slice ? Kind::gemma3n : Kind::gemma3;
    const Model model(kind);
    Session session(model.engine);
    GenerateOptions options = lively(40);
    options.speculate = how;
    int pieces = 0;
    const auto cut = [&](const Piece&) {
      if (++pieces == 6) model.truncate();
      return true;
    };
    CHECK_THROWS(generate(session, prompt(20), options, {}, nullptr, cut), Error::Kind::io, model.truncated());
    CHECK(pieces >= 6 && pieces < 30);
    const Model whole(kind);
    Session replay(whole.engine);
    const std::vector<Token> kept(session.tokens().begin(), session.tokens().end());
    CHECK(kept.size() >= 20);
    CHECK(copy(session.logits()) == copy(replay.prefill(kept)));
  }
}

TEST("a model that is truncated between passes ends every request of a scheduler") {
  const Model model;
  std::vector<Request> requests;
  for (const std::size_t length : {4, 60, 9}) requests.push_back(request(prompt(length)));
  for (const Ended& ended : run(model.engine, std::move(requests), [&] { model.truncate(); })) {
    CHECK(ended.error == model.truncated());
    CHECK(static_cast<std::size_t>(ended.session->position()) <= 16);  // of the first pass
  }
}

TEST("a model that was overwritten is blamed, not its weights") {
  const Model model;
  Session session = holding(model.engine, 20);
  GenerateOptions options = lively(5);
  Session running(model.engine);
  const auto overwrite = [&](const Piece&) {
    model.overwrite();
    return true;
  };
  CHECK_THROWS(generate(running, prompt(20), options, {}, nullptr, overwrite), Error::Kind::io,
               model.path.string() + ": was written to at ");
  CHECK(running.position() == 0);
  CHECK_THROWS(session.prefill(prompt(3)), Error::Kind::io, model.path.string() + ": was written to at ");
  CHECK_THROWS(session.save(model.directory.path() / "none"), Error::Kind::io, "was written to at ");

  const Model poisoned;
  Session stepped = holding(poisoned.engine, 20);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  poisoned.overwrite(tiny::gemma3({}, std::vector<float>(96 * 64, nan)).build().bytes);
  CHECK_THROWS(step(stepped, 7), Error::Kind::io, poisoned.path.string() + ": was written to at ");
}

TEST("a model that is replaced by renaming is the one that was opened") {
  const Model model;
  Session session = holding(model.engine, 20);
  model.directory.write("new", bytes_of(Kind::gemma3n));
  std::filesystem::rename(model.directory.path() / "new", model.path);
  const Model same;
  CHECK(copy(session.prefill(prompt(9, 3))) == copy(holding(same.engine, 20).prefill(prompt(9, 3))));
}

TEST("a session whose file was truncated says so at each call, and others go on") {
  const Model model;
  Saved cut = saved(model);
  Session fork = cut.session.fork();
  Session third = cut.session.fork();
  cut.truncate();
  Session other = holding(model.engine, 30);
  const Floats expected = copy(other.fork().prefill({5}));
  for (int again = 0; again < 2; ++again) {
    CHECK_THROWS(step(third, 7), Error::Kind::io, cut.truncated());
    CHECK_THROWS(cut.session.prefill({7}), Error::Kind::io, cut.truncated());
    CHECK_THROWS(generate(fork, prompt(200), lively(3)), Error::Kind::io, cut.truncated());
    CHECK_THROWS(cut.session.save(model.directory.path() / "none"), Error::Kind::io, cut.truncated());
  }
  CHECK(copy(other.fork().prefill({5})) == expected);
  CHECK_THROWS(Session::restore(model.engine, cut.path), Error::Kind::format, cut.path.string());
  cut.session.rewind(0);  // nothing of the file is left
  CHECK(copy(cut.session.prefill(prompt(30))) == copy(other.logits()));
}

TEST("a session that was restored goes on when its file is replaced by itself, as a chat saves each turn") {
  const Model model;
  Saved kept = saved(model);
  kept.session.prefill({7});
  kept.session.save(kept.path);
  Session live = holding(model.engine, 200);
  live.prefill({7});
  CHECK(copy(kept.session.prefill({8})) == copy(live.prefill({8})));
}

TEST("in a scheduler a session whose file was truncated fails alone") {
  const Model model;
  const Saved cut = saved(model);
  const std::vector<Token> longer = prompt(230);
  Session alone(model.engine);
  const GenerateResult expected = generate(alone, prompt(40, 5), lively(10));
  for (const bool before : {true, false}) {
    std::vector<Request> requests;
    requests.push_back(request(longer, Session::restore(model.engine, saved(model).path)));
    requests.push_back(request(prompt(40, 5)));
    if (before) cut.truncate();
    const auto ended = run(model.engine, std::move(requests), [&] { cut.truncate(); });
    CHECK(ended[0].error.starts_with(cut.truncated()));
    CHECK(ended[1].error.empty() && tiny::same(ended[1].result, expected));
  }
}

TEST("kept prefixes of a session whose file was truncated are forgotten") {
  const Model model;
  Saved cut = saved(model);
  Scheduler scheduler(model.engine, {.prefixes = 4});
  const auto answer = [&](std::optional<Session> session) {
    Ended ended;
    Request asked = request(prompt(230), std::move(session));
    asked.on_end = [&](Outcome&& outcome) {
      if (outcome.error != nullptr) std::rethrow_exception(outcome.error);
      ended.result = std::move(outcome.result);
    };
    scheduler.submit(std::move(asked));
    while (scheduler.step()) {
    }
    return ended.result;
  };
  const GenerateResult first = answer(std::move(cut.session));
  CHECK(first.stats.reused_tokens == 200);
  CHECK(answer(std::nullopt).stats.reused_tokens > 200);
  cut.truncate();
  const GenerateResult again = answer(std::nullopt);
  CHECK(again.stats.reused_tokens == 0 && tiny::same(again, first));
}

int main() { return check::run_tests(); }
