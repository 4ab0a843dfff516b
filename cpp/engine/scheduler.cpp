#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "engine/answer.hpp"
#include "engine/session.hpp"

// Each sequence has a timeline of tokens of which its cache holds a part; what is missing is pending: a whole prompt at
// first, then the token that was sampled last. A pass computes one segment of pending tokens of each sequence, and
// samples for those that have none left.
namespace gemlet {
namespace {

struct Sequence {
  Sequence(Scheduler::Id number, Request&& what)
      : id(number),
        request(std::move(what)),
        session(std::move(*request.session)),
        answer(state().parts(), static_cast<std::size_t>(session.context()), request.prompt.tokens, request.options,
               std::move(request.on_text)) {
    state().check(request.prompt, 0);
  }

  Session::Impl& state() { return Session::Impl::of(session); }

  void begin() {
    Session::Impl& s = state();
    const Prompt& prompt = request.prompt;
    const std::size_t common = s.timeline.common_prefix(prompt, prompt.tokens.size() - 1);
    s.truncate(common);
    s.timeline.take_rows(prompt);
    answer.stats().reused_tokens = static_cast<int>(s.cache->length());
    s.timeline.append(rest_of(prompt, common));
    s.all_logits.clear();
    began = Clock::now();
  }

  void sample(std::span<const float> logits, Clock::time_point pass_began) {
    state().check_logits(logits);
    state().logits.assign(logits.begin(), logits.end());
    GenerateStats& stats = answer.stats();
    const bool first = stats.first_token_seconds == 0;
    if (first) stats.prefill_seconds = seconds_since(began);
    answer.sample(logits);
    if (first) {
      stats.first_token_seconds = seconds_since(submitted);
    } else {
      stats.decode_seconds += seconds_since(pass_began);
    }
    if (answer.running()) state().timeline.push_back(answer.last_token());
  }

  /// The session then holds what was computed.
  void end(std::exception_ptr error) {
    if (state().pending() > 0) {
      state().truncate(state().timeline.cut_before(state().cache->length()));
      state().logits.clear();
    }
    if (request.on_end) request.on_end({answer.take_result(), std::move(error), std::move(session)});
  }

  Scheduler::Id id;
  Request request;
  Session session;
  Answer answer;
  Clock::time_point submitted = Clock::now();
  Clock::time_point began;
};

int at_least_one(const char* name, int value) {
  if (value < 1) {
    throw Error(Error::Kind::argument, std::string(name) + " is " + std::to_string(value) + ", expected 1 or more");
  }
  return value;
}

}  // namespace

struct Scheduler::Impl {
  Impl(std::shared_ptr<const Engine> shared, const SchedulerOptions& requested)
      : engine(std::move(shared)),
        max_sequences(static_cast<std::size_t>(at_least_one("sequences", requested.sequences))),
        prompt_rows(static_cast<std::size_t>(at_least_one("prompt_rows", requested.prompt_rows))) {}

  struct Part {
    Sequence* sequence;
    std::size_t tokens;
    std::exception_ptr error = nullptr;
  };

  /// Lets sequences in, and those out that were cancelled.
  void admit() {
    std::vector<std::unique_ptr<Sequence>> dropped;
    {
      const std::lock_guard lock(mutex);
      const auto drop = [&](auto& sequences) {
        for (auto& sequence : sequences) {
          if (cancelled.contains(sequence->id)) dropped.push_back(std::move(sequence));
        }
        std::erase(sequences, nullptr);
      };
      if (!cancelled.empty()) {
        drop(active);
        drop(waiting);
        cancelled.clear();
      }
      while (active.size() < max_sequences && !waiting.empty()) {
        waiting.front()->begin();
        active.push_back(std::move(waiting.front()));
        waiting.pop_front();
      }
    }
    for (const auto& sequence : dropped) end_cancelled(*sequence);
  }

  static void end_cancelled(Sequence& sequence) {
    std::exception_ptr error;
    try {
      sequence.answer.finish(FinishReason::cancelled);
    } catch (...) {
      error = std::current_exception();
    }
    sequence.end(error);
  }

  void end_all() {
    std::deque<std::unique_ptr<Sequence>> never_begun;
    {
      const std::lock_guard lock(mutex);
      never_begun.swap(waiting);
    }
    for (const auto& sequence : active) end_cancelled(*sequence);
    for (const auto& sequence : never_begun) end_cancelled(*sequence);
    active.clear();
  }

  /// One token of each answer that is being written, and pieces of prompts: equal shares of what is left, so that a
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
      const std::size_t share = std::min({(rows + reading - 1) / reading, rows, sequence->state().pending()});
      --reading;
      rows -= share;
      if (share > 0) parts.push_back({sequence.get(), share});
    }
    return parts;
  }

  void compute(std::vector<Part>& parts, const Cancel* cancel) {
    const Clock::time_point start = Clock::now();
    std::vector<Segment> segments;
    std::vector<Part*> wanted;
    for (Part& part : parts) {
      Session::Impl& s = part.sequence->state();
      Segment segment;
      try {
        part.tokens = s.next_piece(part.tokens);
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
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      try {
        wanted[i]->sequence->sample(std::span(logits).subspan(i * vocabulary, vocabulary), start);
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
    for (Part& part : parts) {
      if (part.error == nullptr && part.sequence->answer.running()) continue;
      const auto place = std::find_if(active.begin(), active.end(),
                                      [&](const auto& sequence) { return sequence.get() == part.sequence; });
      const std::unique_ptr<Sequence> ended = std::move(*place);
      active.erase(place);
      ended->end(part.error);
    }
  }

  std::shared_ptr<const Engine> engine;
  std::size_t max_sequences;
  std::size_t prompt_rows;

  std::vector<std::unique_ptr<Sequence>> active;  // of the thread that steps

  std::mutex mutex;
  std::condition_variable submitted;
  std::deque<std::unique_ptr<Sequence>> waiting;
  std::set<Id> cancelled;
  Id next_id = 1;
  Cancel stopping = false;
};

Scheduler::Scheduler(std::shared_ptr<const Engine> engine, const SchedulerOptions& options) {
  if (engine == nullptr) throw Error(Error::Kind::argument, "a scheduler needs an engine");
  impl_ = std::make_unique<Impl>(std::move(engine), options);
}

Scheduler::~Scheduler() { impl_->end_all(); }

Scheduler::Id Scheduler::submit(Request request) {
  if (!request.session) {
    request.session.emplace(impl_->engine);
  } else if (&request.session->engine() != impl_->engine.get()) {
    throw Error(Error::Kind::argument, "the session belongs to another engine than the scheduler's");
  }
  Id id = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    id = impl_->next_id++;
  }
  auto sequence = std::make_unique<Sequence>(id, std::move(request));
  const std::lock_guard lock(impl_->mutex);
  if (impl_->stopping) throw Error(Error::Kind::argument, "the scheduler was stopped");
  impl_->waiting.push_back(std::move(sequence));
  impl_->submitted.notify_one();
  return id;
}

void Scheduler::cancel(Id id) {
  const std::lock_guard lock(impl_->mutex);
  impl_->cancelled.insert(id);
}

bool Scheduler::step(const Cancel* cancel) {
  impl_->admit();
  if (impl_->active.empty()) return false;
  impl_->pass(cancel);
  return true;
}

void Scheduler::run() {
  Impl& s = *impl_;
  try {
    while (!s.stopping) {
      if (step(&s.stopping)) continue;
      std::unique_lock lock(s.mutex);
      s.submitted.wait(lock, [&] { return !s.waiting.empty() || s.stopping; });
    }
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::cancelled) throw;
  }
  s.end_all();
}

void Scheduler::stop() {
  const std::lock_guard lock(impl_->mutex);
  impl_->stopping = true;
  impl_->submitted.notify_one();
}

}  // namespace gemlet
