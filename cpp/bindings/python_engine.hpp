#pragma once

#include <cstddef>
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
  static std::unique_ptr<Generation> one(std::shared_ptr<PySession> session, std::vector<Token> prompt,
                                         GenerateOptions options) {
    return std::unique_ptr<Generation>(
        new Generation([session = std::move(session), prompt = std::move(prompt), options = std::move(options)](
                           Job& job, std::vector<GenerateResult>& results) {
          const Busy::Use use(session->busy);
          results.push_back(generate(
              session->session, prompt, options, [&](std::string_view text) { return job.emit(0, text); },
              job.cancel_flag()));
        }));
  }

  static std::unique_ptr<Generation> batch(const PyEngine& engine, std::vector<std::vector<Token>> prompts,
                                           std::vector<GenerateOptions> options) {
    return std::unique_ptr<Generation>(
        new Generation([engine = engine.engine, prompts = std::move(prompts), options = std::move(options)](
                           Job& job, std::vector<GenerateResult>& results) {
          results = generate_batch(
              engine, prompts, options, [&](std::size_t index, std::string_view text) { return job.emit(index, text); },
              job.cancel_flag());
        }));
  }

  std::optional<std::pair<std::size_t, pybind11::str>> next() {
    std::optional<Job::Piece> piece = job_.next();
    if (!piece) return std::nullopt;
    return std::pair(piece->index, to_str(piece->text));
  }

  void cancel() { job_.cancel(); }
  void close() { job_.close(); }

  /// Empty until the generation has ended, and after one that failed.
  pybind11::list results() const {
    pybind11::list out;
    if (job_.done()) {
      for (const GenerateResult& result : results_) out.append(to_dict(result));
    }
    return out;
  }

 private:
  template <typename Body>
  explicit Generation(Body body) : job_([this, body = std::move(body)](Job& job) { body(job, results_); }) {}

  std::vector<GenerateResult> results_;
  Job job_;  // last: its destructor waits for the body, which uses the others
};

}  // namespace gemlet
