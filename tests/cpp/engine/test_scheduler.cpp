#include <algorithm>
#include <atomic>
#include <limits>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/tiny_answers.hpp"
#include "forked.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "tiny_gemma3n.hpp"

// Run under the thread sanitizer too.
using namespace gemlet;
using tiny::lively;
using tiny::prompt;
using tiny::same;

namespace {

using Tokens = std::vector<Token>;

std::shared_ptr<const Engine> engine(int chunk = 7, int threads = 2) {
  static const gguf::TemporaryDirectory directory;
  static const auto path = directory.write("tiny.gguf", tiny::gemma3n().build().bytes);
  EngineOptions options;
  options.threads = threads;
  options.context = 200;
  options.chunk = chunk;
  return Engine::load(path, options);
}

GenerateResult alone(const std::shared_ptr<const Engine>& model, const Tokens& tokens, const GenerateOptions& options) {
  Session session(model);
  return generate(session, tokens, options);
}

Request request(const Tokens& tokens, const GenerateOptions& options, std::map<int, Outcome>& outcomes, int key) {
  Request made;
  made.prompt = tokens;
  made.options = options;
  made.on_end = [&outcomes, key](Outcome&& outcome) { outcomes.emplace(key, std::move(outcome)); };
  return made;
}

}  // namespace

TEST("requests that join and leave between passes answer as each alone") {
  const auto model = engine();
  for (const int sequences : {1, 3, 16}) {
    for (const int prompt_rows : {1, 4, 100}) {
      Scheduler scheduler(model, {.sequences = sequences, .prompt_rows = prompt_rows});
      std::map<int, Outcome> outcomes;
      int submitted = 0;
      const auto submit = [&] {
        const auto i = static_cast<std::size_t>(submitted);
        scheduler.submit(
            request(prompt(1 + 29 * (i % 4), submitted), lively(3 + 5 * submitted % 17, i), outcomes, submitted));
        ++submitted;
      };
      submit();
      for (int pass = 0; scheduler.step() || submitted < 8; ++pass) {
        if (pass % 3 == 0 && submitted < 8) submit();
      }
      CHECK(outcomes.size() == 8);
      for (auto& [key, outcome] : outcomes) {
        const auto i = static_cast<std::size_t>(key);
        const GenerateResult expected = alone(model, prompt(1 + 29 * (i % 4), key), lively(3 + 5 * key % 17, i));
        CHECK(outcome.error == nullptr && same(outcome.result, expected));
      }
    }
  }
}

TEST("a session goes on in the scheduler and comes back with the answer; forks share what it holds") {
  const auto model = engine();
  Session base(model);
  base.prefill(prompt(100, 1));
  Scheduler scheduler(model);
  std::map<int, Outcome> outcomes;
  for (int i = 0; i < 3; ++i) {
    Tokens tokens = prompt(100, 1);
    tokens.push_back(20 + i);
    Request made = request(tokens, lively(6, 4), outcomes, i);
    made.session = base.fork();
    scheduler.submit(std::move(made));
  }
  while (scheduler.step()) {
  }
  for (int i = 0; i < 3; ++i) {
    Tokens tokens = prompt(100, 1);
    tokens.push_back(20 + i);
    Outcome& outcome = outcomes.at(i);
    CHECK(same(outcome.result, alone(model, tokens, lively(6, 4))) && outcome.result.stats.reused_tokens == 100);
    tokens.insert(tokens.end(), outcome.result.tokens.begin(), outcome.result.tokens.end());
    tokens.push_back(7);  // the next turn
    CHECK(same(generate(outcome.session, tokens, lively(5, 1)), alone(model, tokens, lively(5, 1))));
  }
}

TEST("short prompts and answers that are being written do not wait for a long prompt") {
  const auto model = engine(64);
  Scheduler scheduler(model, {.sequences = 4, .prompt_rows = 10});
  std::map<int, Outcome> outcomes;
  std::map<int, int> pieces;
  const auto submit = [&](int key, std::size_t length, int tokens) {
    Request made = request(prompt(length, key), lively(tokens, 1), outcomes, key);
    made.on_text = [&pieces, key](std::string_view) { return ++pieces[key] > 0; };
    scheduler.submit(std::move(made));
  };
  submit(0, 3, 40);
  scheduler.step();
  submit(1, 190, 5);
  submit(2, 9, 5);
  for (int pass = 0; pass < 12; ++pass) scheduler.step();
  CHECK(outcomes.contains(2) && !outcomes.contains(1) && pieces[0] > 5 && pieces[1] == 0);
  while (scheduler.step()) {
  }
  CHECK(outcomes.size() == 3);
}

TEST("an error is its request's own") {
  const auto model = engine();
  Scheduler scheduler(model);
  std::map<int, Outcome> outcomes;
  GenerateOptions hostile = lively(10, 1);
  scheduler.submit(request(prompt(9, 0), lively(12, 3), outcomes, 0));
  Request throwing = request(prompt(20, 1), hostile, outcomes, 1);
  throwing.on_text = [](std::string_view) -> bool { throw std::runtime_error("the reader is gone"); };
  scheduler.submit(std::move(throwing));
  Request stopping = request(prompt(20, 2), hostile, outcomes, 2);
  stopping.on_text = [](std::string_view) { return false; };
  scheduler.submit(std::move(stopping));
  const auto refused = [&](const Tokens& tokens, const GenerateOptions& options, const std::string& what) {
    const std::string message = check::throws<Error>([&] { scheduler.submit(request(tokens, options, outcomes, 9)); });
    check::that(message.find(what) != std::string::npos, message);
  };
  refused({}, hostile, "empty");
  refused(prompt(201, 0), hostile, "201");
  refused({30000}, hostile, "30000");
  refused(prompt(3, 0), lively(-1, 0), "max_tokens");
  hostile.sampling.top_p = 7;
  refused(prompt(3, 0), hostile, "top_p");
  Request foreign = request(prompt(3, 0), lively(1, 0), outcomes, 9);
  foreign.session.emplace(engine());
  CHECK(check::throws<Error>([&] { scheduler.submit(std::move(foreign)); }).find("another engine") !=
        std::string::npos);
  while (scheduler.step()) {
  }
  CHECK(outcomes.size() == 3);
  CHECK(outcomes.at(0).error == nullptr && same(outcomes.at(0).result, alone(model, prompt(9, 0), lively(12, 3))));
  CHECK(check::throws<std::runtime_error>([&] { std::rethrow_exception(outcomes.at(1).error); }) ==
        "the reader is gone");
  CHECK(outcomes.at(2).error == nullptr && outcomes.at(2).result.finish_reason == FinishReason::cancelled);
  CHECK(check::throws<Error>([&] { Scheduler(nullptr); }).find("engine") != std::string::npos);
  CHECK(check::throws<Error>([&] { Scheduler(model, {.sequences = 0}); }).find("sequences is 0") != std::string::npos);
  CHECK(check::throws<Error>([&] { Scheduler(model, {.prompt_rows = -2}); }).find("prompt_rows is -2") !=
        std::string::npos);
}

TEST("a request that is refused is handed back with its session") {
  const auto model = engine();
  Scheduler scheduler(model, {.sequences = 1, .max_waiting = 2});
  std::map<int, Outcome> outcomes;
  const auto submit = [&](int key) { return scheduler.submit(request(prompt(9, key), lively(4), outcomes, key)); };
  for (const int key : {0, 1, 2}) submit(key);
  CHECK(scheduler.load().active == 0 && scheduler.load().waiting == 3);
  scheduler.step();
  CHECK(scheduler.load().active == 1 && scheduler.load().waiting == 2);

  Request one_more = request(prompt(20, 3), lively(4), outcomes, 3);
  one_more.session.emplace(model);
  one_more.session->prefill(prompt(10, 3));
  try {
    scheduler.submit(std::move(one_more));
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.kind() == Error::Kind::overload && std::string(error.what()).find("2 wait") != std::string::npos);
  }
  CHECK(one_more.session->position() == 10 && one_more.prompt.tokens == prompt(20, 3));
  one_more.options.sampling.top_p = 7;
  CHECK(check::throws<Error>([&] { scheduler.submit(std::move(one_more)); }).find("top_p") != std::string::npos);
  CHECK(one_more.session->position() == 10);
  while (scheduler.step()) {
  }
  CHECK(scheduler.load().active == 0 && scheduler.load().waiting == 0);
  one_more.options = lively(4);
  scheduler.submit(std::move(one_more));
  while (scheduler.step()) {
  }
  CHECK(outcomes.size() == 4 && outcomes.at(3).result.stats.reused_tokens == 10);
  CHECK(check::throws<Error>([&] { Scheduler(model, {.max_waiting = -1}); }).find("max_waiting is -1") !=
        std::string::npos);
}

TEST("pieces carry every token with its log-probabilities") {
  const auto model = engine();
  GenerateOptions options = lively(30, 4);
  options.sampling.top_logprobs = 2;
  const std::string whole = alone(model, prompt(9), options).text;
  options.stop = {whole.substr(whole.size() / 2, 3), "never said"};
  struct Collected {
    std::string text;
    std::string text_alone;
    GenerateResult result;
  };
  const auto on_piece = [](Collected& to) {
    return [&to](const Piece& piece) {
      to.text += piece.text;
      to.result.tokens.insert(to.result.tokens.end(), piece.tokens.begin(), piece.tokens.end());
      to.result.logprobs.insert(to.result.logprobs.end(), piece.logprobs.begin(), piece.logprobs.end());
      return true;
    };
  };
  const auto matches = [](const Collected& got, const GenerateResult& expected) {
    const bool logprobs = std::equal(got.result.logprobs.begin(), got.result.logprobs.end(), expected.logprobs.begin(),
                                     expected.logprobs.end(), [](const SampledToken& a, const SampledToken& b) {
                                       return a.token == b.token && a.logprob == b.logprob && a.top.size() == 2;
                                     });
    return got.text == expected.text && got.text_alone == expected.text && got.result.tokens == expected.tokens &&
           logprobs && expected.logprobs.size() == expected.tokens.size();
  };
  Collected one;
  Session session(model);
  const auto add = [](Collected& to) {
    return [&to](std::string_view text) { return !to.text_alone.append(text).empty(); };
  };
  const GenerateResult expected = generate(session, prompt(9), options, add(one), nullptr, on_piece(one));
  CHECK(matches(one, expected) && expected.finish_reason == FinishReason::stop);

  Collected scheduled;
  std::map<int, Outcome> outcomes;
  Scheduler scheduler(model);
  Request made = request(prompt(9), options, outcomes, 0);
  made.on_text = add(scheduled);
  made.on_piece = on_piece(scheduled);
  scheduler.submit(std::move(made));
  Request stopped = request(prompt(9), options, outcomes, 1);
  stopped.on_piece = [](const Piece&) { return false; };
  scheduler.submit(std::move(stopped));
  while (scheduler.step()) {
  }
  CHECK(matches(scheduled, outcomes.at(0).result) && same(outcomes.at(0).result, expected));
  CHECK(outcomes.at(1).result.finish_reason == FinishReason::cancelled && outcomes.at(1).result.tokens.size() == 1);
}

TEST("where stepping fails, every request ends with the error, and no other is taken") {
  const auto model = engine();
  Scheduler scheduler(model, {.sequences = 2});
  std::map<int, Outcome> outcomes;
  Request failing = request(prompt(3), lively(1), outcomes, 0);
  failing.on_end = [](Outcome&&) { throw std::bad_alloc(); };
  scheduler.submit(std::move(failing));
  for (const int key : {1, 2, 3}) scheduler.submit(request(prompt(30, key), lively(50), outcomes, key));
  scheduler.run();
  CHECK(outcomes.size() == 3);
  for (const auto& entry : outcomes) {
    const Outcome& outcome = entry.second;
    CHECK(outcome.error != nullptr);
    check::throws<std::bad_alloc>([&] { std::rethrow_exception(outcome.error); });
  }
  const std::string message =
      check::throws<Error>([&] { scheduler.submit(request(prompt(3), lively(1), outcomes, 9)); });
  CHECK(message.find("stopped: std::bad_alloc") != std::string::npos);
}

TEST("cancelling one leaves the others alone, and its session with what was computed") {
  const auto model = engine();
  std::map<int, Outcome> outcomes;
  {
    Scheduler scheduler(model, {.sequences = 2});
    std::vector<Scheduler::Id> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(scheduler.submit(request(prompt(30, i), lively(20, 1), outcomes, i)));
    scheduler.step();
    scheduler.cancel(ids[0]);  // half-way through its prompt
    scheduler.cancel(ids[3]);  // waits
    scheduler.cancel(99);
    scheduler.step();
    CHECK(outcomes.size() == 2);
    Session& session = outcomes.at(0).session;
    CHECK(session.position() > 0 && session.position() < 30);
    CHECK(same(generate(session, prompt(30, 0), lively(5, 2)), alone(model, prompt(30, 0), lively(5, 2))));
    while (!outcomes.contains(1)) scheduler.step();
    CHECK(same(outcomes.at(1).result, alone(model, prompt(30, 1), lively(20, 1))));
    Cancel cancel = true;
    CHECK(check::throws<Error>([&] { scheduler.step(&cancel); }).find("cancel") != std::string::npos);
    scheduler.step();  // goes on as if nothing had been
  }
  CHECK(outcomes.size() == 4);
  for (const int i : {0, 2, 3}) {
    CHECK(outcomes.at(i).error == nullptr && outcomes.at(i).result.finish_reason == FinishReason::cancelled);
  }
  const std::string text = outcomes.at(2).result.text;
  CHECK(alone(model, prompt(30, 2), lively(20, 1)).text.starts_with(text));
}

TEST("many threads submit and cancel while one runs") {
  const auto model = engine();
  Scheduler scheduler(model, {.sequences = 3});
  std::jthread runner([&] { scheduler.run(); });
  std::atomic<int> ended = 0;
  std::atomic<int> wrong = 0;
  constexpr int clients = 4;
  constexpr int requests = 5;
  {
    std::vector<std::jthread> threads;
    for (int c = 0; c < clients; ++c) {
      threads.emplace_back([&, c] {
        for (int i = 0; i < requests; ++i) {
          Request made;
          made.prompt = prompt(10, c);
          made.options = lively(6, static_cast<std::uint64_t>(i));
          made.on_end = [&, c, i](Outcome&& outcome) {
            const bool cancelled = outcome.result.finish_reason == FinishReason::cancelled;
            const auto expected = alone(model, prompt(10, c), lively(6, static_cast<std::uint64_t>(i)));
            if (outcome.error != nullptr || (!cancelled && !same(outcome.result, expected))) ++wrong;
            ++ended;
          };
          const Scheduler::Id id = scheduler.submit(std::move(made));
          if (i % 3 == 2) scheduler.cancel(id);
        }
      });
    }
  }
  while (ended < clients * requests) std::this_thread::yield();
  CHECK(wrong == 0);
  std::atomic<bool> cancelled = false;
  Request last;
  last.prompt = prompt(150, 0);
  last.options = lively(40, 0);
  last.on_text = [&](std::string_view) {
    scheduler.stop();
    return true;
  };
  last.on_end = [&](Outcome&& outcome) { cancelled = outcome.result.finish_reason == FinishReason::cancelled; };
  scheduler.submit(std::move(last));
  runner.join();
  CHECK(cancelled);
  std::map<int, Outcome> outcomes;
  CHECK(check::throws<Error>([&] {
          scheduler.submit(request(prompt(3, 0), lively(1, 0), outcomes, 0));
        }).find("stopped") != std::string::npos);
}

TEST("a forked child has none of the requests that another thread computes") {
  if (forked::skipped()) return;
  const auto model = engine();
  const GenerateResult expected = alone(model, prompt(5, 1), lively(9, 1));
  Scheduler scheduler(model);
  std::atomic<bool> begun = false;
  std::map<int, Outcome> outcomes;
  GenerateOptions endless = lively(100000, 1);
  Request made = request(prompt(5, 1), endless, outcomes, 0);
  made.on_text = [&](std::string_view) {
    begun = true;
    return true;
  };
  std::jthread runner([&] { scheduler.run(); });
  const Scheduler::Id running = scheduler.submit(std::move(made));
  while (!begun && scheduler.load().active + scheduler.load().waiting > 0) std::this_thread::yield();
  const bool good = forked::in_child([&] {
    check::throws_error([&] { scheduler.submit(request(prompt(5, 1), lively(9, 1), outcomes, 1)); },
                        Error::Kind::argument, "stayed with the parent");
    check::throws_error([&] { scheduler.step(); }, Error::Kind::argument, "stayed with the parent");
    scheduler.cancel(running);
    scheduler.stop();
    if (outcomes.size() == 1) {  // it had not ended when the process was forked
      Outcome& outcome = outcomes.at(0);
      check::throws_error([&] { std::rethrow_exception(outcome.error); }, Error::Kind::argument, "stayed");
      if (outcome.session.position() != 0) return false;
    }
    Scheduler another(model);
    another.submit(request(prompt(5, 1), lively(9, 1), outcomes, 2));
    while (another.step()) {
    }
    return same(outcomes.at(2).result, expected);
  });
  scheduler.stop();
  runner.join();
  CHECK(good);
  CHECK(outcomes.size() == 1 && outcomes.at(0).error == nullptr);
}

TEST("a forked child goes on with a scheduler that its thread steps") {
  if (forked::skipped()) return;
  const auto model = engine();
  const GenerateResult expected = alone(model, prompt(5, 1), lively(9, 1));
  Scheduler scheduler(model);
  std::map<int, Outcome> outcomes;
  scheduler.submit(request(prompt(5, 1), lively(9, 1), outcomes, 0));
  scheduler.step();
  const auto finish = [&] {
    while (scheduler.step()) {
    }
    return outcomes.size() == 1 && same(outcomes.at(0).result, expected);
  };
  CHECK(forked::in_child(finish));
  CHECK(finish());
}

int main() { return check::run_tests(); }
