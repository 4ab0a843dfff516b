#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "gemlet/gemlet.hpp"
#include "tensor/at_fork.hpp"

namespace gemlet {

/// A computation on a thread of its own, so that the Python thread that wants its outcome can wait without the GIL and
/// still notice Ctrl-C. It runs only while somebody waits in next(): between two pieces it sleeps, so that an iterator
/// that is closed after three pieces leaves the same state every time.
///
/// A job that runs when the process forks goes on in the parent only; the child is told so by an Error.
class Job {
 public:
  struct Piece {
    std::size_t index;
    std::string text;
  };

  /// What the body may do with its job.
  class Body {
   public:
    /// Hands out a piece and sleeps until the next one is wanted. False when the job was cancelled.
    virtual bool emit(std::size_t index, std::string_view text) = 0;
    virtual const Cancel* cancel_flag() const = 0;

   protected:
    ~Body() = default;
  };

  /// `body` owns what it uses: where nobody may wait for it any more, it outlives the job.
  explicit Job(std::function<void(Body&)> body);
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// With the GIL held. The next piece, or nothing once the body has returned; rethrows what the body threw. When a
  /// Python signal handler raises, the body is cancelled and awaited before the exception goes on. Throws Error for a
  /// job that is the parent's, and in a signal handler that has interrupted this.
  std::optional<Piece> next();

  /// Asks the body to stop; a reader that waits in next() gets the text so far. From any thread.
  void cancel();

  /// With the GIL held. Stops the body and waits for it; in a signal handler that has interrupted next(), the waiting
  /// is left to that call.
  void close();

  bool done() const;

  /// Whether the body is the parent's, since this process was forked.
  bool lost() const;

  /// At the exit of Python, with the GIL held: ends all jobs, and lets other threads that wait for one, or begin one,
  /// sleep from then on. A body that calls Python must not run while Python ends.
  static void end_all();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Runs `compute(const Cancel*)` without the GIL; Ctrl-C stops it.
template <typename Compute>
void run_interruptible(Compute&& compute) {
  Job job([&](Job::Body& self) { compute(self.cancel_flag()); });
  job.next();
}

}  // namespace gemlet
