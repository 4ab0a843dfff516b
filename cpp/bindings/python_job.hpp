#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// A computation on a thread of its own, so that the Python thread that wants its outcome can wait without the GIL and
/// still notice Ctrl-C. The body never touches Python. It runs only while somebody waits in next(): between two pieces
/// it sleeps, so that an iterator that is closed after three pieces leaves the same state every time.
class Job {
 public:
  struct Piece {
    std::size_t index;
    std::string text;
  };

  explicit Job(std::function<void(Job&)> body) : body_(std::move(body)) {}
  ~Job() { close(); }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// With the GIL held. The next piece, or nothing once the body has returned; rethrows what the body threw. When a
  /// Python signal handler raises, the body is cancelled and awaited before the exception goes on.
  std::optional<Piece> next() {
    bool interrupted = false;
    {
      pybind11::gil_scoped_release release;
      const std::lock_guard one_reader(reader_);
      std::unique_lock lock(mutex_);
      if (!started_) {
        started_ = true;
        thread_ = std::thread([this] { work(); });  // after a cancel too: the body says what there is
      }
      wanted_ = true;
      changed_.notify_all();
      while (!changed_.wait_for(lock, signal_check_interval, [this] { return piece_ || done_; })) {
        lock.unlock();
        {
          pybind11::gil_scoped_acquire acquire;
          interrupted = PyErr_CheckSignals() != 0;
        }
        lock.lock();
        if (interrupted) {
          cancel_ = true;
          changed_.notify_all();
          changed_.wait(lock, [this] { return done_; });
          piece_.reset();
          break;
        }
      }
    }
    if (interrupted) throw pybind11::error_already_set();
    const std::lock_guard lock(mutex_);
    if (piece_) return std::exchange(piece_, std::nullopt);
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    return std::nullopt;
  }

  /// Asks the body to stop; a reader that waits in next() gets the text so far. From any thread.
  void cancel() {
    const std::lock_guard lock(mutex_);
    cancel_ = true;
    changed_.notify_all();
  }

  /// With the GIL held. Stops the body and waits for it.
  void close() {
    cancel();
    pybind11::gil_scoped_release release;
    const std::lock_guard one_reader(reader_);
    if (thread_.joinable()) thread_.join();
    piece_.reset();
  }

  bool done() const {
    const std::lock_guard lock(mutex_);
    return done_;
  }

  const Cancel* cancel_flag() const { return &cancel_; }

  /// For the body: hands out a piece and sleeps until the next one is wanted. False when the job was cancelled.
  bool emit(std::size_t index, std::string_view text) {
    std::unique_lock lock(mutex_);
    piece_ = Piece{index, std::string(text)};
    wanted_ = false;
    changed_.notify_all();
    changed_.wait(lock, [this] { return wanted_ || cancel_; });
    return !cancel_;
  }

 private:
  static constexpr std::chrono::milliseconds signal_check_interval{50};

  void work() {
    std::exception_ptr failure;
    try {
      body_(*this);
    } catch (...) {
      failure = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    failure_ = failure;
    done_ = true;
    changed_.notify_all();
  }

  std::function<void(Job&)> body_;
  Cancel cancel_ = false;
  std::mutex reader_;  // held by the one thread that waits
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Piece> piece_;
  std::exception_ptr failure_;
  bool started_ = false;
  bool wanted_ = false;
  bool done_ = false;
  std::thread thread_;
};

/// Runs `compute(const Cancel*)` without the GIL; Ctrl-C stops it.
template <typename Compute>
void run_interruptible(Compute&& compute) {
  Job job([&](Job& self) { compute(self.cancel_flag()); });
  job.next();
}

}  // namespace gemlet
