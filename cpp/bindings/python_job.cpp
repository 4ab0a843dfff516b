#include "bindings/python_job.hpp"

#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <set>
#include <system_error>
#include <vector>

#include "bindings/python_gil.hpp"

namespace gemlet {
namespace {

constexpr std::chrono::milliseconds signal_check_interval{50};

}  // namespace

struct Job::State final : Job::Body {
  explicit State(std::function<void(Body&)> what) : body(std::move(what)) {}

  /// The jobs of this process, and the thread that has ended them all.
  struct All {
    ForkMutex mutex;
    std::set<std::weak_ptr<State>, std::owner_less<>> states;
    std::atomic<bool> ended = false;
    std::thread::id ended_by;
  };
  static All& all() {
    static All* const made = new All;  // used while static objects end
    return *made;
  }
  /// Whether this thread is to sleep, because Python ends.
  static bool is_over() { return all().ended && all().ended_by != std::this_thread::get_id(); }

  bool emit(std::size_t index, std::string_view text) override {
    std::unique_lock lock(mutex);
    piece = Piece{index, std::string(text)};
    wanted = false;
    changed.notify_all();
    changed.wait(lock, [this] { return wanted || stopping; });
    return !stopping;
  }
  const Cancel* cancel_flag() const override { return &stopping; }

  void work() {
    std::exception_ptr thrown;
    try {
      body(*this);
    } catch (...) {
      thrown = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    failure = std::move(thrown);
    is_done = true;
    changed.notify_all();
  }

  void check_not_lost() const {
    if (!lost) return;
    throw Error(
        Error::Kind::argument,
        "the computation had begun when this process was forked, and goes on in the parent only: begin another");
  }

  bool is_read_here() const { return reader == std::this_thread::get_id(); }

  /// Nobody waits for news in a forked child: no thread is left to bring any, and the waiting of the parent's threads
  /// has left `changed` unusable.
  void tell() {
    if (!inherited) changed.notify_all();
  }

  void start() {
    try {
      thread = std::thread([this] { work(); });  // after a cancel too: the body says what there is
    } catch (const std::system_error& error) {
      throw Error(Error::Kind::memory, std::string("cannot start the thread that computes: ") + error.what());
    }
    started = true;
  }

  void begin_reading(std::unique_lock<std::mutex>& lock) {
    check_not_lost();
    if (is_read_here()) {
      throw Error(Error::Kind::argument, "a signal handler wants the next piece of the stream that it has interrupted");
    }
    if (reader != std::thread::id()) changed.wait(lock, [this] { return reader == std::thread::id(); });
    if (!started && !is_over()) start();
    reader = std::this_thread::get_id();
    wanted = true;
    tell();
  }

  /// True if a signal handler raised: the body has stopped then.
  bool wait_for_news(std::unique_lock<std::mutex>& lock) {
    while (!piece && !is_done && !is_over()) {
      check_not_lost();  // a signal handler may have forked
      if (changed.wait_for(lock, signal_check_interval) == std::cv_status::no_timeout) continue;
      lock.unlock();
      const bool raised = [] {
        const WithGil gil;
        return PyErr_CheckSignals() != 0;
      }();
      lock.lock();
      if (!raised) continue;
      stopping = true;
      tell();
      while (!is_done && !lost) changed.wait(lock);
      piece.reset();
      return true;
    }
    return false;
  }

  /// With news, or an Error. True if a signal handler raised.
  bool read(std::unique_lock<std::mutex>& lock) {
    begin_reading(lock);
    const auto end_reading = [this] {
      reader = std::thread::id();
      tell();
    };
    try {
      const bool raised = wait_for_news(lock);
      end_reading();
      return raised;
    } catch (...) {
      end_reading();
      throw;
    }
  }

  void cancel() {
    const std::lock_guard lock(mutex);
    stopping = true;
    tell();
  }

  bool is_running() const { return started && !is_done; }

  void wait_for_end() {
    std::unique_lock lock(mutex);
    while (is_running() && !lost) changed.wait(lock);
  }

  /// In a forked child.
  void inherit() {
    if (!started) return;
    inherited = true;
    lost = !is_done;
    if (!is_read_here()) reader = std::thread::id();
  }

  std::function<void(Body&)> body;
  Cancel stopping = false;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::thread::id reader;  // the thread in next()
  std::optional<Piece> piece;
  std::exception_ptr failure;
  bool started = false;
  bool wanted = false;
  bool is_done = false;
  bool inherited = false;  // its thread was the parent's
  bool lost = false;       // and had not ended
  std::thread thread;
  AtFork at_fork{{.before = [this] { mutex.lock(); },
                  .in_parent = [this] { mutex.unlock(); },
                  .in_child =
                      [this] {
                        mutex.unlock();
                        inherit();
                      }}};
};

Job::Job(std::function<void(Body&)> body) : state_(std::make_shared<State>(std::move(body))) {
  const std::lock_guard lock(State::all().mutex);
  State::all().states.insert(state_);
}

Job::~Job() {
  close();
  State& s = *state_;
  {
    const std::lock_guard lock(State::all().mutex);
    State::all().states.erase(state_);
  }
  if (s.inherited || s.is_running()) {
    new std::shared_ptr<State>(std::move(state_));  // for ever: its thread may use it, or its `changed` never ends
  } else if (s.thread.joinable()) {
    s.thread.join();
  }
}

std::optional<Job::Piece> Job::next() {
  State& s = *state_;
  bool raised = false;
  {
    const WithoutGil without_gil;
    {
      std::unique_lock lock(s.mutex);
      raised = s.read(lock);
    }
    if (State::is_over()) sleep_for_ever();
  }
  if (raised) throw pybind11::error_already_set();
  const std::lock_guard lock(s.mutex);
  if (s.piece) return std::exchange(s.piece, std::nullopt);
  if (s.failure) std::rethrow_exception(std::exchange(s.failure, nullptr));
  return std::nullopt;
}

void Job::cancel() { state_->cancel(); }

void Job::close() {
  State& s = *state_;
  s.cancel();
  if (python_is_ending()) return;  // the body may wait for the GIL, which it will not get
  const WithoutGil without_gil;
  std::unique_lock lock(s.mutex);
  if (s.is_read_here()) return;  // a signal handler has interrupted next(), which waits for the end
  while (!s.inherited && (s.is_running() || s.reader != std::thread::id())) s.changed.wait(lock);
  s.piece.reset();
}

bool Job::done() const {
  const std::lock_guard lock(state_->mutex);
  return state_->is_done;
}

bool Job::lost() const { return state_->lost; }

void Job::end_all() {
  std::vector<std::shared_ptr<State>> states;  // the last one to hold a state needs the GIL
  State::All& all = State::all();
  const WithoutGil without_gil;
  all.ended_by = std::this_thread::get_id();
  all.ended = true;
  {
    const std::lock_guard lock(all.mutex);
    for (const std::weak_ptr<State>& each : all.states) {
      if (std::shared_ptr<State> state = each.lock()) states.push_back(std::move(state));
    }
  }
  for (const auto& state : states) state->cancel();
  for (const auto& state : states) state->wait_for_end();
}

}  // namespace gemlet
