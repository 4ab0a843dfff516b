#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "tiny_gemma3n.hpp"

using gemlet::Engine;
using gemlet::Error;
using gemlet::Logits;
using gemlet::Session;
using gemlet::Token;
using tiny::prompt;

namespace {

using Floats = std::vector<float>;

const gguf::TemporaryDirectory& directory() {
  static const gguf::TemporaryDirectory made;
  return made;
}

std::filesystem::path model_path(std::uint64_t seed = 1) {
  return directory().write("tiny-" + std::to_string(seed) + ".gguf", tiny::gemma3n({}, seed).build().bytes);
}

std::shared_ptr<const Engine> engine(int chunk = 5, int threads = 2, const std::string& kernels = "") {
  static const std::filesystem::path path = model_path();
  gemlet::EngineOptions options;
  options.threads = threads;
  options.chunk = chunk;
  options.kernels = kernels;
  return Engine::load(path, options);
}

// Long enough that every ring of pages, two of 64 positions for a window of 6, wraps.
constexpr int long_prompt = 205;

Floats copy(std::span<const float> values) { return {values.begin(), values.end()}; }

Floats all_logits(const std::shared_ptr<const Engine>& model, std::span<const Token> tokens) {
  Session session(model);
  return copy(session.prefill(tokens, Logits::all));
}

Floats last_logits(const std::shared_ptr<const Engine>& model, std::span<const Token> tokens) {
  Session session(model);
  return copy(session.prefill(tokens));
}

Floats last_row(const Floats& all) {
  return {all.end() - static_cast<std::ptrdiff_t>(tiny::vocabulary().size()), all.end()};
}

}  // namespace

TEST("prefill, chunks of every size and single steps give the same bits") {
  const std::vector<Token> tokens = prompt(long_prompt);
  const Floats expected = all_logits(engine(64), tokens);
  const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
  CHECK(*high - *low > 1);  // equal bits would say nothing of a model that answers zeros
  for (const int chunk : {1, 2, 3, 6, 7, 70}) check::that(all_logits(engine(chunk), tokens) == expected, "chunk");

  Session stepped(engine());
  Floats rows;
  for (const Token token : tokens) {
    const auto row = stepped.prefill({token});
    rows.insert(rows.end(), row.begin(), row.end());
  }
  CHECK(rows == expected);
}

TEST("the thread count does not change a bit") {
  const Floats expected = all_logits(engine(5, 1), prompt(long_prompt));
  for (const int threads : {2, 3, 4, 8})
    check::that(all_logits(engine(5, threads), prompt(long_prompt)) == expected, "threads");
}

TEST("prompt tokens that skip the KV-shared layers leave the last logits alone") {
  Session session(engine());
  CHECK(copy(session.prefill(prompt(long_prompt))) == last_row(all_logits(engine(), prompt(long_prompt))));
}

TEST("a step of several sessions equals each alone") {
  const auto model = engine();
  std::vector<Session> together;
  std::vector<Session*> pointers;
  std::vector<Session> alone;
  for (Token salt = 0; salt < 4; ++salt) {
    const std::vector<Token> tokens = prompt(3 + 9 * static_cast<std::size_t>(salt), salt);
    together.emplace_back(model).prefill(tokens);
    alone.emplace_back(model).prefill(tokens);
  }
  for (Session& session : together) pointers.push_back(&session);
  for (Token step = 0; step < 12; ++step) {
    const std::vector<Token> tokens = {step, step + 40, step + 80, step + 120};
    Session::step(pointers, tokens);
    for (std::size_t i = 0; i < alone.size(); ++i) {
      alone[i].prefill({tokens[i]});
      CHECK(copy(together[i].logits()) == copy(alone[i].logits()));
    }
  }
}

TEST("a rewind, however far, is as if the tokens had never been") {
  const std::vector<Token> tokens = prompt(long_prompt);
  const std::vector<Token> other = prompt(4, 9);
  const auto model = engine(41);
  for (int keep = 0; keep < long_prompt; keep += keep < 120 ? 17 : 1) {
    Session session(model);
    session.prefill(tokens);
    session.rewind(keep);
    CHECK(session.position() == keep);
    std::vector<Token> expected(tokens.begin(), tokens.begin() + keep);
    expected.insert(expected.end(), other.begin(), other.end());
    CHECK(copy(session.prefill(other)) == last_logits(model, expected));
  }
}

TEST("logits are refused after a rewind") {
  Session session(engine());
  session.prefill(prompt(long_prompt));
  session.rewind(3);
  CHECK(check::throws<Error>([&] { (void)session.logits(); }).find("no logits") != std::string::npos);
}

TEST("advance_to computes only what is new") {
  Session session(engine());
  std::vector<Token> tokens = prompt(20);
  CHECK(session.advance_to(tokens) == 0);
  tokens.insert(tokens.end(), {7, 8, 9});
  CHECK(session.advance_to(tokens) == 20);
  CHECK(copy(session.logits()) == last_row(all_logits(engine(), tokens)));
  CHECK(session.advance_to(tokens) == 22);  // the same again: the last token for its logits
  tokens[21] = 100;                         // another turn after a shared beginning
  CHECK(session.advance_to(tokens) == 21);
  CHECK(copy(session.logits()) == last_row(all_logits(engine(), tokens)));
}

TEST("a fork goes its own way") {
  Session session(engine());
  session.prefill(prompt(long_prompt));
  Session fork = session.fork();
  CHECK(copy(fork.logits()) == copy(session.logits()));
  const std::vector<Token> left = prompt(9, 1);
  const std::vector<Token> right = prompt(9, 2);
  const Floats from_fork = copy(fork.prefill(left));
  session.prefill(right);
  Session replay(engine());
  replay.prefill(prompt(long_prompt));
  CHECK(copy(replay.prefill(left)) == from_fork);
}

TEST("forks and restored sessions rewind as the session they come from") {
  const std::filesystem::path path = directory().path() / "session";
  const std::vector<Token> more = prompt(4, 9);
  const auto model = engine(41);
  for (const std::size_t length : {20, long_prompt}) {
    Session session(model);
    session.prefill(prompt(length));
    session.save(path);
    for (int back = 1; back < 20; back += 3) {
      const auto keep = static_cast<int>(length) - back;
      std::vector<Token> expected = prompt(static_cast<std::size_t>(keep));
      expected.insert(expected.end(), more.begin(), more.end());
      for (const bool saved : {false, true}) {
        Session copied = saved ? Session::restore(model, path) : session.fork();
        copied.rewind(keep);
        CHECK(copy(copied.prefill(more)) == last_logits(model, expected));
      }
    }
  }
}

TEST("a saved session goes on where it was") {
  const std::filesystem::path path = directory().path() / "session";
  Session session(engine());
  session.prefill(prompt(long_prompt));
  session.save(path);
  Session restored = Session::restore(engine(7, 1), path);
  CHECK(std::ranges::equal(restored.tokens(), session.tokens()));
  CHECK(copy(restored.logits()) == copy(session.logits()));
  const std::vector<Token> more = prompt(12, 3);
  CHECK(copy(restored.prefill(more)) == copy(session.prefill(more)));
  session.rewind(2);  // further than the rings reach: the file holds tokens that are yet to be computed
  session.save(path);
  restored = Session::restore(engine(), path);
  CHECK(copy(restored.prefill(more)) == copy(session.prefill(more)));
}

TEST("a saved session is refused when it is damaged, cut or of another model") {
  const std::filesystem::path path = directory().path() / "session";
  Session session(engine());
  session.prefill(prompt(long_prompt));
  session.save(path);
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  tiny::Random random(3);
  for (int i = 0; i < 300; ++i) {
    std::string bad = bytes;
    if (i % 2 == 0) {
      bad.resize(random.below(bytes.size() - 1) + 1);
    } else {
      bad[random.below(bytes.size())] ^= static_cast<char>(1U << random.below(8));
    }
    const auto damaged = directory().write("damaged", bad);
    check::throws<Error>([&] { (void)Session::restore(engine(), damaged); });
  }
  const auto other = Engine::load(model_path(2));
  const std::string message = check::throws<Error>([&] { (void)Session::restore(other, path); });
  CHECK(message.find("saved with model") != std::string::npos);
  CHECK(check::throws<Error>([&] { (void)Session::restore(engine(), path, 20); }).find("205 tokens") !=
        std::string::npos);
}

TEST("a restored session reuses of a prompt what the saved one would have, and goes on with the same bits") {
  tiny::Random random(11);
  const std::filesystem::path path = directory().path() / "session";
  std::size_t reused = 0;
  for (const int chunk : {5, 41, 100}) {
    const auto model = engine(chunk);
    for (int history = 0; history < 40; ++history) {
      Session live(model);
      for (int turn = 0; turn < 4; ++turn) {
        live.prefill(prompt(1 + random.below(90), static_cast<Token>(random.below(20))));
        if (random.below(2) == 0)
          live.rewind(live.position() - static_cast<int>(random.below(std::min(40, live.position()))));
      }
      live.save(path);
      const std::vector<Token> held(live.tokens().begin(), live.tokens().end());
      std::vector<Token> more = held;
      more.push_back(8);
      std::vector<Token> changed = held;
      changed.back() = (changed.back() + 1) % 290;
      const std::vector<Token> fewer(held.begin(), held.end() - (held.size() > 1 ? 1 : 0));
      std::vector<Token> undone(held.begin(), held.end() - static_cast<std::ptrdiff_t>(random.below(held.size())));
      undone.push_back(9);
      for (const auto& next : {held, more, changed, fewer, undone}) {
        Session fork = live.fork();
        Session restored = Session::restore(model, path);
        for (int again = 0; again < 2; ++again) {  // what follows is the same, too
          const int expected = fork.advance_to(next);
          CHECK(restored.advance_to(next) == expected);
          CHECK(copy(restored.logits()) == copy(fork.logits()));
          reused += static_cast<std::size_t>(expected);
        }
      }
    }
  }
  CHECK(reused > 50000);
  Session live(engine());
  live.prefill(prompt(long_prompt));
  live.save(path);
  CHECK(Session::restore(engine(), path).advance_to(prompt(long_prompt)) == long_prompt - 1);
}

TEST("sessions of another layout are another version's") {
  const std::filesystem::path path = directory().path() / "session";
  Session session(engine());
  session.prefill(prompt(3));
  session.save(path);
  const auto write_magic = [&](const std::string& magic) {
    std::fstream(path, std::ios::binary | std::ios::in | std::ios::out) << magic;
  };
  write_magic("GEMLETS4");
  CHECK_THROWS(Session::restore(engine(), path), Error::Kind::unsupported,
               path.string() + ": saved by another version of gemlet: layout 4, this one reads layout 5");
  write_magic("GEMLETSX");
  CHECK_THROWS(Session::restore(engine(), path), Error::Kind::format, "not a saved session");
  write_magic("GEMLETS5");
  CHECK(Session::restore(engine(), path).position() == 3);
}

TEST("saving where nothing can be written keeps the old file and leaves no other") {
  Session session(engine());
  session.prefill(prompt(3));
  const auto missing = directory().path() / "no" / "such" / "folder";
  CHECK(check::throws<Error>([&] { session.save(missing); }).find("folder") != std::string::npos);
}

TEST("a prompt beyond the context names both lengths and changes nothing") {
  Session session(engine(), 30);
  session.prefill(prompt(10));
  const Floats before = copy(session.logits());
  const std::string message = check::throws<Error>([&] { session.prefill(prompt(21)); });
  CHECK(message.find("30") != std::string::npos && message.find("21") != std::string::npos);
  CHECK(session.position() == 10 && copy(session.logits()) == before);
  session.prefill(prompt(20));  // to the last position
  CHECK(session.position() == 30);
  CHECK(check::throws<Error>([&] { session.advance_to(prompt(31)); }).find("31") != std::string::npos);
}

TEST("bad arguments are refused by name") {
  Session session(engine());
  CHECK(check::throws<Error>([&] { session.prefill({}); }).find("no tokens") != std::string::npos);
  const std::vector<Token> unknown = {1, 2, 30000};
  CHECK(check::throws<Error>([&] { session.prefill(unknown); }).find("30000") != std::string::npos);
  const std::vector<Token> negative = {-1};
  CHECK(check::throws<Error>([&] { session.advance_to(negative); }).find("-1") != std::string::npos);
  CHECK(check::throws<Error>([&] { session.rewind(1); }).find("rewind") != std::string::npos);
  CHECK(check::throws<Error>([&] { (void)Session(engine(), 513); }).find("513") != std::string::npos);
  CHECK(check::throws<Error>([&] { (void)Session(nullptr); }).find("engine") != std::string::npos);
  Session* twice[] = {&session, &session};
  const std::vector<Token> two = {1, 2};
  CHECK(check::throws<Error>([&] { Session::step(twice, two); }).find("once") != std::string::npos);
  CHECK(check::throws<Error>([&] { engine(5, 1, "mmx"); }).find("mmx") != std::string::npos);
  CHECK(check::throws<Error>([&] { engine(0); }).find("chunk") != std::string::npos);
  CHECK(check::throws<Error>([&] { engine(5, 1000); }).find("threads") != std::string::npos);
}

TEST("a cancelled prefill leaves the session as it was") {
  Session session(engine(2, 1));
  session.prefill(prompt(10));
  const Floats before = copy(session.logits());
  // Cancelled from inside, after some layers of the fifth chunk: further than the rings reach back.
  gemlet::Cancel cancel = false;
  int layers = 0;
  session.on_layer([&](std::size_t, std::span<const float>) {
    if (++layers == 22) cancel = true;
  });
  const std::vector<Token> more = prompt(40, 2);
  try {
    session.prefill(more, Logits::all, &cancel);
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.kind() == Error::Kind::cancelled);
  }
  session.on_layer({});
  CHECK(session.position() == 10 && copy(session.logits()) == before);
  Session fresh(engine());
  fresh.prefill(prompt(10));
  CHECK(copy(session.prefill(more)) == copy(fresh.prefill(more)));

  CHECK(check::throws<Error>([&] { session.advance_to(prompt(12, 5), &cancel); }).find("cancel") != std::string::npos);
  CHECK(session.position() == 50);
  const Token next = 4;
  CHECK(copy(session.prefill({next})) == copy(fresh.prefill({next})));
}

TEST("weights that are not numbers are reported, not answered with") {
  gguf::Builder file = tiny::gemma3n();
  std::string& data = file.tensor("blk.2.laurel_l.weight").data;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(data.data() + 40, &nan, sizeof(nan));
  const auto model = Engine::load(directory().write("nan.gguf", file.build().bytes));
  Session session(model);
  CHECK(check::throws<Error>([&] { session.prefill(prompt(3)); }).find("not numbers") != std::string::npos);
  CHECK(session.position() == 0);
  std::memcpy(file.tensor("blk.1.attn_norm.weight").data.data(), &nan, sizeof(nan));
  const auto path = directory().write("nan.gguf", file.build().bytes);
  CHECK(check::throws<Error>([&] { Engine::load(path); }).find("blk.1.attn_norm.weight") != std::string::npos);
}

int main() { return check::run_tests(); }
