"""For instructors: the students' edition, grading, feedback. Start with README.md here."""
