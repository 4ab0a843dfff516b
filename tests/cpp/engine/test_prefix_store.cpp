#include <map>
#include <string>
#include <vector>

#include "check.hpp"
#include "engine/prefix_store.hpp"
#include "engine/session.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "tiny_gemma3n.hpp"

using namespace gemlet;
using tiny::lively;
using tiny::prompt;
using tiny::same;

namespace {

using Tokens = std::vector<Token>;

/// Windows of 6 positions, in rings of a page (of 64 positions) or two: a session goes back a page at most.
std::shared_ptr<const Engine> engine() {
  static const gguf::TemporaryDirectory directory;
  static const auto path = directory.write("tiny.gguf", tiny::gemma3n().build().bytes);
  static const auto loaded = Engine::load(path, {.threads = 2, .context = 400, .chunk = 32});
  return loaded;
}

Session holding(const Tokens& tokens, int context = 0) {
  Session session(engine(), context);
  session.prefill(tokens);
  return session;
}

Tokens joined(Tokens first, const Tokens& then) {
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

std::size_t found(PrefixStore& store, const Tokens& tokens, const std::string& scope = "") {
  PrefixStore::Match match = store.find(tokens, Session(engine()), scope);
  CHECK(match.session.has_value() == (match.reusable > 0));
  if (match.session) CHECK(static_cast<std::size_t>(match.session->advance_to(tokens)) == match.reusable);
  return match.reusable;
}

GenerateResult alone(const Tokens& tokens, const GenerateOptions& options) {
  Session session(engine());
  return generate(session, tokens, options);
}

Outcome outcome(Scheduler& scheduler, const Tokens& tokens, const GenerateOptions& options,
                std::optional<Session> session = std::nullopt, const std::string& scope = "") {
  std::optional<Outcome> ended;
  scheduler.submit({.prompt = tokens,
                    .options = options,
                    .on_end = [&](Outcome&& outcome) { ended = std::move(outcome); },
                    .session = std::move(session),
                    .prefix_scope = scope});
  while (scheduler.step()) {
  }
  CHECK(ended.has_value() && ended->error == nullptr);
  return std::move(*ended);
}

GenerateResult answer(Scheduler& scheduler, const Tokens& tokens, const GenerateOptions& options,
                      std::optional<Session> session = std::nullopt, const std::string& scope = "") {
  return outcome(scheduler, tokens, options, std::move(session), scope).result;
}

Tokens held_by(const Session& session) { return {session.tokens().begin(), session.tokens().end()}; }

/// The session of a request of `scope` that goes on with `session`, with ten more tokens.
Session continued(Scheduler& scheduler, const Session& session, const std::string& scope) {
  return outcome(scheduler, joined(held_by(session), prompt(10, 5)), lively(3), session.fork(), scope).session;
}

}  // namespace

TEST("the session with most in common is found, for at most all tokens but the last") {
  PrefixStore store(8, 0);
  CHECK(found(store, prompt(10)) == 0);
  store.put(holding(prompt(20)), "");
  store.put(holding(joined(prompt(10), prompt(20, 3))), "");
  CHECK(store.size() == 2);
  CHECK(found(store, prompt(40)) == 20 && found(store, prompt(20)) == 19 && found(store, prompt(5)) == 4);
  CHECK(found(store, joined(prompt(10), prompt(9, 3))) == 18);
  CHECK(found(store, prompt(20, 7)) == 0);
}

TEST("what another engine setting, adapter or scope computed is not taken") {
  PrefixStore store(8, 0);
  store.put(holding(prompt(20), 100), "");
  CHECK(found(store, prompt(20)) == 0);
  Session adapted(engine());
  adapted.set_adapter(engine()->make_adapter({}));
  CHECK(store.find(prompt(20), adapted, "").reusable == 0);
  adapted.prefill(prompt(20));
  store.put(adapted, "");
  CHECK(found(store, prompt(20)) == 0 && store.find(prompt(20), adapted, "").reusable == 19);
  store.put(holding(prompt(20)), "key");
  CHECK(found(store, prompt(20)) == 0 && found(store, prompt(20), "key") == 19 && found(store, prompt(20), "k") == 0);
  CHECK(store.size() == 3);
}

TEST("one that continues another takes its place; one that adds nothing is not kept") {
  PrefixStore store(8, 0);
  store.put(holding(prompt(20)), "");
  store.put(holding(prompt(50)), "");
  CHECK(store.size() == 1 && found(store, prompt(60)) == 50);
  store.put(holding(prompt(30)), "");
  store.put(Session(engine()), "");
  CHECK(store.size() == 1 && found(store, prompt(60)) == 50);
  // Too far ahead for its sliding windows to come back: both are of use.
  store.put(holding(prompt(300)), "");
  CHECK(store.size() == 2 && found(store, prompt(320)) == 300 && found(store, prompt(55)) == 50);
}

TEST("the least recently used makes room, by number and by bytes") {
  PrefixStore few(2, 0);
  for (const Token salt : {1, 2}) few.put(holding(prompt(20, salt)), "");
  CHECK(found(few, prompt(20, 1)) == 19);
  few.put(holding(prompt(20, 3)), "");
  CHECK(few.size() == 2 && found(few, prompt(20, 1)) == 19 && found(few, prompt(20, 2)) == 0);

  const Session one = holding(prompt(20));
  const std::size_t bytes = Session::Impl::of(one).cache->bytes();
  CHECK(bytes > 0);
  PrefixStore small(8, 2 * bytes);
  for (const Token salt : {1, 2, 3}) small.put(holding(prompt(20, salt)), "");
  CHECK(small.size() == 2 && small.bytes() == 2 * bytes && found(small, prompt(20, 1)) == 0);
  small.put(holding(prompt(300)), "");  // more than fits at all
  CHECK(small.size() == 2);
  PrefixStore none(8, bytes - 1);
  none.put(one, "");
  CHECK(none.size() == 0 && none.bytes() == 0);
}

TEST("pictures count by their content, and their rows are not kept") {
  const auto pictured = [](std::uint64_t content) {
    Prompt made(prompt(30));
    const auto hidden = static_cast<std::size_t>(engine()->info().hidden_size);
    made.media = {{.begin = 10, .count = 8, .content = {content, 0}}};
    made.media[0].rows = std::make_shared<const std::vector<float>>(8 * hidden, 0.5F);
    return made;
  };
  PrefixStore store(8, 0);
  const Prompt first = pictured(1);
  Session session(engine());
  session.prefill(first);
  store.put(session, "");
  session = Session(engine());
  CHECK(first.media[0].rows.use_count() == 1);
  PrefixStore::Match match = store.find(first, session, "");
  CHECK(match.reusable == 29 && match.session->advance_to(first) == 29);
  CHECK(store.find(pictured(2), session, "").reusable == 10 && store.find(prompt(30), session, "").reusable == 10);
}

TEST("an answer is the same to the last bit with and without the store") {
  for (const int prompt_rows : {5, 100}) {
    Scheduler scheduler(engine(), {.prompt_rows = prompt_rows, .prefixes = 4});
    Tokens conversation;
    int held = 0;
    for (int turn = 0; turn < 5; ++turn) {
      conversation = joined(conversation, prompt(40, turn));
      GenerateOptions options = lively(9, static_cast<std::uint64_t>(turn));
      options.sampling.top_logprobs = 1;  // compared, too
      const GenerateResult result = answer(scheduler, conversation, options);
      CHECK(same(result, alone(conversation, options)) && result.stats.reused_tokens == held);
      conversation = joined(conversation, result.tokens);
      held = static_cast<int>(conversation.size()) - 1;  // the last one was not computed
    }
  }
}

TEST("a long beginning that many prompts share is kept where they part, though the windows have moved on") {
  Scheduler scheduler(engine(), {.prefixes = 8});
  const Tokens system = prompt(150, 1);
  std::vector<int> reused;
  for (int i = 0; i < 4; ++i) {
    const Tokens tokens = joined(system, prompt(200, 10 + i));
    const GenerateResult result = answer(scheduler, tokens, lively(5, 3));
    CHECK(same(result, alone(tokens, lively(5, 3))));
    reused.push_back(result.stats.reused_tokens);
  }
  CHECK((reused == std::vector<int>{0, 0, 150, 150}));
}

TEST("scopes, sessions of one's own and a scheduler without a store") {
  Scheduler scheduler(engine(), {.prefixes = 4});
  answer(scheduler, prompt(50), lively(3), std::nullopt, "mine");
  CHECK(answer(scheduler, prompt(50), lively(3), std::nullopt, "yours").stats.reused_tokens == 0);
  CHECK(answer(scheduler, prompt(50), lively(3), std::nullopt, "mine").stats.reused_tokens == 49);
  CHECK(answer(scheduler, prompt(50), lively(3), holding(prompt(7)), "mine").stats.reused_tokens == 7);
  CHECK(answer(scheduler, prompt(50), lively(3), Session(engine(), 100), "mine").stats.reused_tokens == 0);
  Scheduler plain(engine());
  answer(plain, prompt(50), lively(3));
  CHECK(answer(plain, prompt(50), lively(3)).stats.reused_tokens == 0);
  CHECK(check::throws<Error>([&] { Scheduler(engine(), {.prefixes = -1}); }).find("prefixes is -1") !=
        std::string::npos);
}

TEST("a session that requests of two scopes go on with is found by neither") {
  // Requests of these scopes, each of which goes on with the session of the one before; then one that begins alike.
  const auto reused = [](const std::vector<std::string>& scopes, const std::string& probe) {
    Scheduler scheduler(engine(), {.prefixes = 8});
    Session session(engine());
    for (const std::string& scope : scopes) session = continued(scheduler, session, scope);
    return answer(scheduler, joined(held_by(session), prompt(9, 8)), lively(1), std::nullopt, probe)
        .stats.reused_tokens;
  };
  CHECK(reused({"mine", "mine", "mine"}, "mine") == 36);
  CHECK(reused({"mine", "yours"}, "yours") == 0 && reused({"mine", "yours"}, "mine") == 12);
  CHECK(reused({"mine", "yours", "mine"}, "mine") == 12);
  // Requests without a scope are a scope, too.
  CHECK(reused({"mine", ""}, "") == 0 && reused({"", "mine"}, "mine") == 0);
}

TEST("a session that is rewound to nothing, or that no request has computed, is any scope's") {
  Scheduler scheduler(engine(), {.prefixes = 8});
  Session session = outcome(scheduler, prompt(50), lively(3), std::nullopt, "mine").session;
  session.rewind(0);
  outcome(scheduler, prompt(50, 1), lively(3), std::move(session), "yours");
  CHECK(answer(scheduler, prompt(50, 1), lively(1), std::nullopt, "yours").stats.reused_tokens == 49);
  outcome(scheduler, prompt(50, 2), lively(3), holding(prompt(20, 2)), "yours");
  CHECK(answer(scheduler, prompt(50, 2), lively(1), std::nullopt, "yours").stats.reused_tokens == 49);
}

TEST("a restored session is not kept, unless its requests had no scope") {
  const gguf::TemporaryDirectory directory;
  const auto path = directory.path() / "session";
  const auto reused = [&](const std::string& before, const std::string& after) {
    Scheduler first(engine());
    continued(first, Session(engine()), before).save(path);
    Scheduler second(engine(), {.prefixes = 8});
    const Session session = continued(second, Session::restore(engine(), path), after);
    return answer(second, joined(held_by(session), prompt(9, 8)), lively(1), std::nullopt, after).stats.reused_tokens;
  };
  CHECK(reused("", "") == 24 && reused("", "mine") == 0);
  CHECK(reused("mine", "mine") == 0 && reused("mine", "") == 0 && reused("mine", "yours") == 0);
}

TEST("an answer that failed leaves nothing in the store") {
  Scheduler scheduler(engine(), {.prefixes = 4});
  int ended = 0;
  scheduler.submit({.prompt = prompt(50),
                    .options = lively(9),
                    .on_text = [](std::string_view) -> bool { throw std::runtime_error("the reader is gone"); },
                    .on_end = [&](Outcome&& outcome) { ended += outcome.error != nullptr ? 1 : 0; }});
  while (scheduler.step()) {
  }
  CHECK(ended == 1 && answer(scheduler, prompt(50), lively(3)).stats.reused_tokens == 0);
}

int main() { return check::run_tests(); }
