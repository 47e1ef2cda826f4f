//! What moto 5.2 does not judge as AWS does. A trial that removes an action which is not enforced sees nothing denied,
//! and fails on the day that moto denies it.
//!
//! | what | moto | covered by |
//! |---|---|---|
//! | resources of Secrets Manager, ECS and CloudWatch Logs | compares every resource with `*`, so that a policy for one ARN never matches: the trials put `*` in place of these ARNs | parliament: resource types and formats |
//! | conditions | gives no condition key a value, so that a statement with a condition denies: the trials leave conditions out | parliament: keys that the action has |
//! | `DeleteObjects` | asks for `s3:DeleteObject` on the bucket instead of each object: the trials add the bucket's ARN | LocalStack runs the operation; AWS documents the object's ARN |
//! | `CopyObject` | asks for no permission on the source | the provider's own look at the source needs the same one |
//! | signed URLs | fails on a request without `Authorization` | LocalStack in the conformance suite; signing asks nobody |
//! | reading a missing object without `s3:ListBucket` | 404, where S3 says 403 | documented only |
//! | shape of denials | XML, of which the clients for JSON understand the status alone: judged by it | the wire tests of the providers have AWS's own shapes |
//! | `HeadBucket` | asks for `s3:HeadBucket`, which does not exist | a denial of it is not an error of any operation |
//! | actions that one call needs beside its own | see [`NOT_ENFORCED`] | parliament, and the linked pages |

/// Actions that AWS asks for in a call that is named otherwise, and moto does not.
pub(crate) const NOT_ENFORCED: [(&str, &str); 3] = [
    // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
    ("iam:PassRole", "asked for by RunTask, for the roles of the task definition"),
    // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/supported-iam-actions-tagging.html
    ("ecs:TagResource", "asked for by RunTask with tags"),
    // https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
    ("secretsmanager:TagResource", "asked for by CreateSecret with tags"),
];

/// Whether moto denies a call for the lack of this action.
pub(crate) fn enforced(action: &str) -> bool {
    NOT_ENFORCED.iter().all(|(name, _)| *name != action)
}
