#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "engine/completion.hpp"
#include "engine/prefix_store.hpp"
#include "engine/session.hpp"
#include "tensor/at_fork.hpp"

// Each sequence has a timeline of tokens of which its cache holds a part; what is missing is pending: a whole prompt at
// first, then the token that was sampled last. A pass computes one segment of pending tokens of each sequence, and
// samples for those that have none left.
namespace gemlet {
namespace {

/// A fork in the middle of a prompt splits a pass: less than so many positions are sooner computed again.
constexpr std::size_t worth_a_fork = 64;

struct Sequence {
  explicit Sequence(Request&& what) : request(std::move(what)) {}

  Session& session() { return *request.session; }
  Session::Impl& state() { return Session::Impl::of(session()); }

  /// Throws for a request that cannot be.
  void check() {
    completion.emplace(state().parts(), static_cast<std::size_t>(session().context()), request.prompt.tokens,
                       request.options, join(request.on_text, request.on_piece));
    state().check(request.prompt, 0);
  }

  void begin(PrefixStore* store) {
    state().check_unchanged();
    begun = true;
    const Prompt& prompt = request.prompt;
    if (store != nullptr && session().position() == 0) {
      PrefixStore::Match found = store->find(prompt, session(), request.prefix_scope);
      if (found.session) session() = std::move(*found.session);
      if (found.common >= found.reusable + worth_a_fork) fork_at = found.common;
    }
    Session::Impl& s = state();
    const std::size_t common = s.timeline.common_prefix(prompt, prompt.tokens.size() - 1);
    s.truncate(common);
    kept = s.cache->length();
    s.timeline.add_scope(request.prefix_scope);
    s.timeline.take_rows(prompt);
    completion->set_reused(static_cast<int>(s.cache->length()));
    s.timeline.append(rest_of(prompt, common));
    s.all_logits.clear();
    completion->begin();
  }

  void sample(std::span<const float> logits) {
    state().check_logits(logits);
    state().logits.assign(logits.begin(), logits.end());
    completion->sample(logits);
    if (completion->running()) {
      state().timeline.push_back(completion->last_token());
    } else {
      state().check_since(kept, &Session::Impl::check_unchanged);
    }
  }

  /// The session then holds what was computed.
  void end(std::exception_ptr error, PrefixStore* store) {
    try {
      if (begun && state().pending() > 0) {
        state().truncate(state().timeline.cut_before(state().cache->length()));
        state().logits.clear();
      }
    } catch (...) {
      if (error == nullptr) error = std::current_exception();
    }
    if (begun && error == nullptr) keep(store);
    if (request.on_end) request.on_end({completion->take_result(), std::move(error), std::move(session())});
  }

  void keep(PrefixStore* store) {
    if (store == nullptr) return;
    try {
      store->put(session(), request.prefix_scope);
    } catch (...) {  // no memory for another session: the completion does not depend on it
    }
  }

  Scheduler::Id id = 0;
  Request request;
  std::optional<Completion> completion;
  bool begun = false;
  std::size_t kept = 0;     // positions that were computed before
  std::size_t fork_at = 0;  // a position at which the prefix store wants a fork; 0: none
};

std::size_t at_least(int least, const char* name, int value) {
  if (value < least) {
    throw Error(Error::Kind::argument, std::string(name) + " is " + std::to_string(value) + ", expected " +
                                           std::to_string(least) + " or more");
  }
  return static_cast<std::size_t>(value);
}

}  // namespace

struct Scheduler::Impl {
  Impl(std::shared_ptr<const Engine> shared, const SchedulerOptions& requested)
      : engine(std::move(shared)),
        max_sequences(at_least(1, "sequences", requested.sequences)),
        prompt_rows(at_least(1, "prompt_rows", requested.prompt_rows)),
        max_waiting(at_least(0, "max_waiting", requested.max_waiting)) {
    if (const std::size_t prefixes = at_least(0, "prefixes", requested.prefixes); prefixes > 0) {
      store.emplace(prefixes, requested.prefix_bytes);
    }
  }

  PrefixStore* prefix_store() { return store ? &*store : nullptr; }

  struct Part {
    Sequence* sequence;
    std::size_t tokens;
    std::size_t held = 0;  // positions before the pass
    std::exception_ptr error = nullptr;
  };

  /// Lets those out that were cancelled, and others in. What they call, Python perhaps, is called without the lock.
  void admit() {
    while (Sequence* sequence = take_cancelled()) end_cancelled(sequence);
    while (Sequence* sequence = take_waiting()) {
      try {
        sequence->begin(prefix_store());
      } catch (...) {
        leave(sequence);
        end(sequence, std::current_exception(), nullptr);
      }
    }
  }

  /// Tells of the end of one in `ending`, which a child that is forked meanwhile finds there.
  void end(Sequence* sequence, std::exception_ptr error, PrefixStore* prefixes) {
    std::exception_ptr thrown;
    try {
      sequence->end(std::move(error), prefixes);
    } catch (...) {
      thrown = std::current_exception();
    }
    std::unique_ptr<Sequence> told;  // ends without the lock
    {
      const std::lock_guard lock(mutex);
      told = std::move(*std::ranges::find(ending, sequence, &std::unique_ptr<Sequence>::get));
      std::erase(ending, nullptr);
    }
    if (thrown != nullptr) std::rethrow_exception(thrown);
  }

  Sequence* take_cancelled() {
    const std::lock_guard lock(mutex);
    while (!cancelled.empty()) {
      const Id id = *cancelled.begin();
      cancelled.erase(cancelled.begin());
      const auto take = [&](auto& sequences) -> Sequence* {
        const auto found = std::find_if(sequences.begin(), sequences.end(), [&](const auto& s) { return s->id == id; });
        if (found == sequences.end()) return nullptr;
        ending.push_back(std::move(*found));
        sequences.erase(found);
        return ending.back().get();
      };
      if (Sequence* taken = take(active)) return taken;
      if (Sequence* taken = take(waiting)) return taken;
    }
    return nullptr;
  }

  /// Makes the next one active, if there is room.
  Sequence* take_waiting() {
    const std::lock_guard lock(mutex);
    if (waiting.empty() || active.size() >= max_sequences) return nullptr;
    active.push_back(std::move(waiting.front()));
    waiting.pop_front();
    return active.back().get();
  }

  void leave(const Sequence* sequence) {
    const std::lock_guard lock(mutex);
    const auto place = std::find_if(active.begin(), active.end(), [&](const auto& s) { return s.get() == sequence; });
    ending.push_back(std::move(*place));
    active.erase(place);
  }

  void end_cancelled(Sequence* sequence) {
    std::exception_ptr error;
    try {
      sequence->completion->finish(FinishReason::cancelled);
    } catch (...) {
      error = std::current_exception();
    }
    end(sequence, error, prefix_store());
  }

  /// As cancelled, or with an error.
  void end_all(const std::exception_ptr& error = nullptr) {
    std::vector<Sequence*> sequences;
    {
      const std::lock_guard lock(mutex);
      const auto move_all = [&](auto& from) {
        for (auto& sequence : from) {
          sequences.push_back(sequence.get());
          ending.push_back(std::move(sequence));
        }
        from.clear();
      };
      move_all(active);
      move_all(waiting);
    }
    for (Sequence* sequence : sequences) {
      try {
        if (error == nullptr) {
          end_cancelled(sequence);
        } else {
          end(sequence, error, nullptr);
        }
      } catch (...) {  // of one on_end, which must not: the others are still told
      }
    }
  }

  /// Stepping failed, and nobody will step any more.
  std::exception_ptr fail(std::exception_ptr error) {
    const std::lock_guard lock(mutex);
    stopping = true;
    return failure = std::move(error);
  }

  /// In a forked child, whose parent has the thread that stepped. What that thread had is not touched any more.
  void lose() {
    if (runner == std::thread::id() || runner == std::this_thread::get_id()) return;
    lost = true;
    stopping = true;
    failure = std::make_exception_ptr(Error(
        Error::Kind::argument, "its thread and its requests stayed with the parent when this process was forked"));
  }

  /// Tells those who wait in the child. Their sessions stay with the parent too: they get empty ones.
  void end_lost() {
    std::vector<Sequence*> sequences;
    {
      const std::lock_guard lock(mutex);
      for (auto& sequence : ending) sequences.push_back(sequence.release());
      for (auto& sequence : active) sequences.push_back(sequence.release());
      for (auto& sequence : waiting) sequences.push_back(sequence.release());
      ending.clear();
      active.clear();
      waiting.clear();
    }
    for (const Sequence* sequence : sequences) {
      try {
        if (sequence->request.on_end) sequence->request.on_end({{}, failure, Session(engine)});
      } catch (...) {  // no memory for a session, or of one on_end, which must not: the others are still told
      }
    }
  }

  void check_running() const {
    if (!stopping) return;
    const std::string stopped = "the scheduler was stopped";
    if (failure == nullptr) throw Error(Error::Kind::argument, stopped);
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      throw Error(Error::Kind::argument, stopped + ": " + error.what());
    }
  }

  /// One token of each completion under way, and pieces of prompts: equal shares of what is left, so that a
  /// short prompt does not wait for a long one.
  std::vector<Part> plan() {
    std::size_t writing = 0;
    for (const auto& sequence : active) writing += sequence->state().pending() == 1 ? 1 : 0;
    const auto chunk = static_cast<std::size_t>(Engine::Impl::of(*engine).options.chunk);
    std::size_t rows = writing > 0 ? std::min(prompt_rows, chunk) : chunk;
    std::size_t reading = active.size() - writing;
    std::vector<Part> parts;
    for (const auto& sequence : active) {
      if (sequence->state().pending() == 1) {
        parts.push_back({sequence.get(), 1});
        continue;
      }
      std::size_t share = std::min({(rows + reading - 1) / reading, rows, sequence->state().pending()});
      if (sequence->fork_at > 0) share = std::min(share, sequence->fork_at - sequence->state().cache->length());
      --reading;
      rows -= share;
      if (share > 0) parts.push_back({sequence.get(), share});
    }
    return parts;
  }

  void compute(std::vector<Part>& parts, const Cancel* cancel) {
    std::vector<Segment> segments;
    std::vector<Part*> wanted;
    for (Part& part : parts) {
      Session::Impl& s = part.sequence->state();
      Segment segment;
      try {
        part.tokens = s.next_piece(part.tokens);
        part.held = s.cache->length();
        s.cache->prepare(part.tokens);  // what may fail for one sequence, memory, fails before the pass begins
        segment = s.segment(part.tokens, part.tokens == s.pending() ? Segment::Want::last : Segment::Want::none);
      } catch (...) {
        part.error = std::current_exception();
        continue;
      }
      segments.push_back(segment);
      if (segment.want == Segment::Want::last) wanted.push_back(&part);
    }
    if (segments.empty()) return;
    const Engine::Impl& loaded = Engine::Impl::of(*engine);
    const std::size_t vocabulary = loaded.vocabulary();
    std::vector<float> logits(wanted.size() * vocabulary);
    const Engine::Impl::ActivationsLease activations(loaded);
    loaded.model->forward(segments, *activations, logits.data(), cancel);
    for (Part& part : parts) {
      if (part.error != nullptr) continue;
      try {
        part.sequence->state().check_since(part.held, &Session::Impl::check_intact);
      } catch (...) {
        part.error = std::current_exception();
      }
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i]->error != nullptr) continue;
      try {
        wanted[i]->sequence->sample(std::span(logits).subspan(i * vocabulary, vocabulary));
      } catch (...) {
        wanted[i]->error = std::current_exception();
      }
    }
  }

  void pass(const Cancel* cancel) {
    std::vector<Part> parts = plan();
    try {
      compute(parts, cancel);
    } catch (const Error& error) {
      if (error.kind() == Error::Kind::cancelled) throw;
      for (Part& part : parts) part.error = std::current_exception();
    } catch (...) {  // no memory for the activations
      for (Part& part : parts) part.error = std::current_exception();
    }
    std::exception_ptr thrown;  // by on_end, which must not; the other requests end all the same
    for (Part& part : parts) {
      Sequence& sequence = *part.sequence;
      if (part.error != nullptr || !sequence.completion->running()) {
        try {
          leave(&sequence);
          end(&sequence, part.error, prefix_store());
        } catch (...) {
          thrown = std::current_exception();
        }
      } else if (sequence.fork_at > 0 && sequence.state().cache->length() == sequence.fork_at) {
        sequence.keep(prefix_store());
        sequence.fork_at = 0;
      }
    }
    if (thrown != nullptr) std::rethrow_exception(thrown);
  }

  std::shared_ptr<const Engine> engine;
  std::size_t max_sequences;
  std::size_t prompt_rows;
  std::size_t max_waiting;

  std::optional<PrefixStore> store;  // of the thread that steps

  mutable std::mutex mutex;
  std::condition_variable submitted;
  std::vector<std::unique_ptr<Sequence>> active;  // read without the lock by the thread that steps, which alone writes
  std::deque<std::unique_ptr<Sequence>> waiting;
  std::vector<std::unique_ptr<Sequence>> ending;  // of those whose end is being told
  std::set<Id> cancelled;
  Id next_id = 1;
  Cancel stopping = false;
  std::exception_ptr failure;  // of stepping
  std::thread::id runner;      // the thread in run()
  bool lost = false;

  AtFork at_fork{{.before = [this] { mutex.lock(); },
                  .in_parent = [this] { mutex.unlock(); },
                  .in_child =
                      [this] {
                        mutex.unlock();
                        lose();
                      }}};
};

Scheduler::Scheduler(std::shared_ptr<const Engine> engine, const SchedulerOptions& options) {
  if (engine == nullptr) throw Error(Error::Kind::argument, "a scheduler needs an engine");
  impl_ = std::make_unique<Impl>(std::move(engine), options);
}

Scheduler::~Scheduler() {
  if (impl_->lost) {
    impl_->end_lost();
    (void)impl_.release();
  } else {
    impl_->end_all();
  }
}

Scheduler::Id Scheduler::submit(Request&& request) {
  Impl& s = *impl_;
  if (!request.session) {
    request.session.emplace(s.engine);
  } else if (&request.session->engine() != s.engine.get()) {
    throw Error(Error::Kind::argument, "the session belongs to another engine than the scheduler's");
  }
  auto sequence = std::make_unique<Sequence>(std::move(request));
  try {
    sequence->check();
    const std::lock_guard lock(s.mutex);
    s.check_running();
    if (s.max_waiting > 0 && s.active.size() + s.waiting.size() >= s.max_sequences + s.max_waiting) {
      throw Error(Error::Kind::overload, std::to_string(s.active.size()) + " requests are computed and " +
                                             std::to_string(s.waiting.size()) + " wait, expected at most " +
                                             std::to_string(s.max_sequences) + " and " + std::to_string(s.max_waiting));
    }
    const Id id = s.next_id++;
    sequence->id = id;
    s.waiting.push_back(std::move(sequence));
    s.submitted.notify_one();
    return id;
  } catch (...) {
    request = std::move(sequence->request);
    throw;
  }
}

SchedulerLoad Scheduler::load() const {
  const std::lock_guard lock(impl_->mutex);
  return {impl_->active.size(), impl_->waiting.size()};
}

void Scheduler::cancel(Id id) {
  const std::lock_guard lock(impl_->mutex);
  impl_->cancelled.insert(id);
}

bool Scheduler::step(const Cancel* cancel) {
  if (impl_->lost) impl_->check_running();
  impl_->admit();
  if (impl_->active.empty()) return false;
  impl_->pass(cancel);
  return true;
}

void Scheduler::run() {
  Impl& s = *impl_;
  if (s.lost) return s.end_lost();
  {
    const std::lock_guard lock(s.mutex);
    s.runner = std::this_thread::get_id();
  }
  try {
    while (!s.stopping) {
      if (step(&s.stopping)) continue;
      std::unique_lock lock(s.mutex);
      s.submitted.wait(lock, [&] { return !s.waiting.empty() || s.stopping; });
    }
    s.end_all();
  } catch (...) {
    s.end_all(s.stopping ? nullptr : s.fail(std::current_exception()));  // stopping cuts a pass short
  }
  const std::lock_guard lock(s.mutex);
  s.runner = std::thread::id();
}

void Scheduler::stop() {
  if (impl_->lost) return impl_->end_lost();
  const std::lock_guard lock(impl_->mutex);
  impl_->stopping = true;
  impl_->submitted.notify_one();
}

}  // namespace gemlet
