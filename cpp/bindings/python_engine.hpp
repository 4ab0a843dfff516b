#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/busy.hpp"
#include "bindings/python_job.hpp"
#include "bindings/python_module.hpp"
#include "gemlet/gemlet.hpp"

// The classes of the Python module that several of its files bind.
namespace gemlet {

/// The bindings hand out values: pybind11 has no holder for pointers to const.
struct PyEngine {
  std::shared_ptr<const Engine> engine;
  const Engine* operator->() const { return engine.get(); }
};

/// While a scheduler has the session, it is busy.
struct PySession {
  explicit PySession(Session&& held) : session(std::move(held)), context(session.context()) {}
  Session session;
  int context;
  Busy busy;
};

/// One or several completions under way.
class Generation {
 public:
  static std::unique_ptr<Generation> one(std::shared_ptr<PySession> session, Prompt prompt, GenerateOptions options);
  static std::unique_ptr<Generation> batch(const PyEngine& engine, std::vector<std::vector<Token>> prompts,
                                           std::vector<GenerateOptions> options);

  std::optional<std::pair<std::size_t, pybind11::str>> next();
  void cancel();
  void close();

  /// Empty until the generation has ended, and after one that failed.
  pybind11::list results() const;

 private:
  using Results = std::vector<GenerateResult>;
  using Compute = std::function<Results(Job::Body& job)>;

  Generation(std::shared_ptr<PySession> session, Compute compute);

  /// In a forked child, which does not know how far the parent has come with the session: makes it empty and free.
  void recover_session();

  std::shared_ptr<PySession> session_;  // null for several completions
  std::shared_ptr<Results> results_ = std::make_shared<Results>();
  Job job_;
};

}  // namespace gemlet
