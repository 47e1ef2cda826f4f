//! Guides: what the API's pages do not say in one place.

/// What each kind of error means and what to do about it.
#[doc = include_str!("../docs/errors.md")]
pub mod errors {}

/// What is promised when things fail, with the test that proves each promise; and what is not promised.
#[doc = include_str!("../docs/reliability.md")]
pub mod reliability {}

/// What the identity of each process may do, and which operation asks for it.
///
#[doc = include_str!("../docs/permissions.md")]
pub mod permissions {}

#[cfg(test)]
mod tests {
    #[test]
    fn the_policies_in_the_guide_are_those_of_the_files() {
        let guide = include_str!("../docs/permissions.md");
        for policy in [include_str!("../docs/iam/web-application.json"), include_str!("../docs/iam/training-task.json")]
        {
            assert!(guide.contains(&format!("```json\n{policy}```\n")), "the guide lacks this:\n{policy}");
        }
    }
}
